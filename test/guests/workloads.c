// Programs that load a guest in one way each, for the bench and for the tests of both engines:
//   workloads NAME PERCENT [DIRECTORY]
// PERCENT scales the amount of work. Each prints one line that depends on all that it computed.
#define _GNU_SOURCE
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t seed = 0x9e3779b97f4a7c15u;

static uint64_t next_random(void) {
  uint64_t z = seed += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

static void fail(const char* what) {
  perror(what);
  exit(1);
}

// Integers: hashing through a table of 256 KiB with branches that cannot be foreseen.
static void cpuint(long percent) {
  static uint32_t table[65536];
  for (int i = 0; i < 65536; i++) table[i] = (uint32_t)next_random();
  uint64_t hash = 14695981039346656037u;
  for (long i = 0; i < 1000000 * percent; i++) {
    const uint64_t value = next_random();
    hash = (hash ^ table[value & 65535]) * 1099511628211u;
    if (value >> 63) table[value >> 20 & 65535] += (uint32_t)hash;
  }
  printf("cpuint %016lx\n", (unsigned long)hash);
}

// Doubles: products of matrices, and bodies that attract each other.
static void cpuflt(long percent) {
  enum { size = 48, bodies = 6 };
  static double a[size][size], b[size][size], c[size][size];
  for (int i = 0; i < size; i++) {
    for (int j = 0; j < size; j++) {
      a[i][j] = (double)(next_random() % 997) / 997;
      b[i][j] = (double)(next_random() % 991) / 991;
    }
  }
  double place[bodies], speed[bodies], sum = 0;
  for (int i = 0; i < bodies; i++) place[i] = 1.5 * i, speed[i] = 0;
  for (long round = 0; round < 25 * percent; round++) {
    for (int i = 0; i < size; i++) {
      for (int j = 0; j < size; j++) {
        double dot = 0;
        for (int k = 0; k < size; k++) dot += a[i][k] * b[k][j];
        c[i][j] = dot;
      }
    }
    for (int i = 0; i < size; i++) {
      for (int j = 0; j < size; j++) a[i][j] = c[i][j] / (1 + fabs(c[i][j]));
    }
    for (int step = 0; step < 500; step++) {
      for (int i = 0; i < bodies; i++) {
        for (int j = 0; j < bodies; j++) {
          const double d = place[j] - place[i], q = d * d + 0.25;
          speed[i] += 1e-4 * d / (q * sqrt(q));
        }
      }
      for (int i = 0; i < bodies; i++) place[i] += 1e-3 * speed[i];
    }
  }
  for (int i = 0; i < size; i++) sum += a[i][i];
  for (int i = 0; i < bodies; i++) sum += place[i];
  printf("cpuflt %.17g\n", sum);
}

static void getppid_loop(long percent) {
  long sum = 0;
  for (long i = 0; i < 5000 * percent; i++) sum += syscall(SYS_getppid) >= 0;
  printf("getppid %ld\n", sum);
}

static void pingpong(long percent) {
  int there[2], back[2];
  char byte = 0;
  if (pipe(there) != 0 || pipe(back) != 0) fail("pipe");
  const pid_t child = fork();
  if (child < 0) fail("fork");
  for (long i = 0; i < 500 * percent; i++) {
    if (child == 0) {
      if (read(there[0], &byte, 1) != 1) _exit(1);
      byte++;
      if (write(back[1], &byte, 1) != 1) _exit(1);
    } else {
      if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1) fail("pipe");
    }
  }
  if (child == 0) _exit(0);
  waitpid(child, NULL, 0);
  printf("pingpong %d\n", byte);
}

static void forkexec(long percent) {
  long good = 0;
  for (long i = 0; i < 3 * percent; i++) {
    const pid_t child = fork();
    if (child < 0) fail("fork");
    if (child == 0) {
      execl("/bin/busybox", "true", (char*)NULL);
      _exit(99);
    }
    int status = 0;
    waitpid(child, &status, 0);
    good += WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }
  printf("forkexec %ld\n", good);
}

static void touch(long percent) {
  const size_t bytes = (size_t)percent << 20;
  unsigned char* memory =
      mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) fail("mmap");
  madvise(memory, bytes, MADV_NOHUGEPAGE);
  unsigned long sum = 0;
  for (size_t at = 0; at < bytes; at += 4096) {
    memory[at] = (unsigned char)(at >> 12);
    sum += memory[at];
  }
  printf("touch %lu\n", sum);
}

// Files of words, about as compressible as text.
static void gentree(long percent, const char* directory) {
  static char text[40000];
  char words[512][12], path[512];
  for (int i = 0; i < 512; i++) {
    const int length = 2 + (int)(next_random() % 9);
    for (int k = 0; k < length; k++) words[i][k] = (char)('a' + next_random() % 26);
    words[i][length] = 0;
  }
  if (mkdir(directory, 0755) != 0) fail(directory);
  for (long file = 0; file < 4 * percent; file++) {
    size_t at = 0;
    while (at + 16 < sizeof text) {
      const char* word = words[next_random() % 512];
      const size_t length = strlen(word);
      memcpy(text + at, word, length);
      at += length;
      text[at++] = next_random() % 12 == 0 ? '\n' : ' ';
    }
    snprintf(path, sizeof path, "%s/%03ld.txt", directory, file);
    const int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0644);
    if (fd < 0 || write(fd, text, at) != (ssize_t)at) fail(path);
    close(fd);
  }
  printf("gentree %ld\n", 4 * percent);
}

static volatile sig_atomic_t signals_seen;
static void on_signal(int number) { signals_seen += number == SIGUSR1 ? 1 : 100; }

// Signals that interrupt floating point, deep recursion, mappings that come and go.
static long depth_of(long n) {
  volatile char frame[512];
  frame[n & 511] = (char)n;
  return n == 0 ? 0 : depth_of(n - 1) + (frame[n & 511] == (char)n);
}

static void churn(long percent) {
  double value = 1;
  signal(SIGUSR1, on_signal);
  signal(SIGALRM, on_signal);
  for (long i = 0; i < 20 * percent; i++) {
    value = sqrt(value + (double)i);
    kill(getpid(), SIGUSR1);
    unsigned char* memory =
        mmap(NULL, 8 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) fail("mmap");
    for (int page = 0; page < 8; page++) memory[page * 4096] = (unsigned char)i;
    mprotect(memory, 4096, PROT_READ);
    madvise(memory + 4096, 4096, MADV_DONTNEED);
    value += memory[4096] + memory[0];
    munmap(memory, 8 * 4096);
  }
  printf("churn %d %ld %.17g\n", (int)signals_seen, depth_of(50 * percent), value);
}

int main(int count, char** arguments) {
  if (count < 3) return 2;
  const char* name = arguments[1];
  const long percent = atol(arguments[2]);
  if (percent < 1 || percent > 1000) return 2;
  if (strcmp(name, "cpuint") == 0) cpuint(percent);
  else if (strcmp(name, "cpuflt") == 0) cpuflt(percent);
  else if (strcmp(name, "getppid") == 0) getppid_loop(percent);
  else if (strcmp(name, "pingpong") == 0) pingpong(percent);
  else if (strcmp(name, "forkexec") == 0) forkexec(percent);
  else if (strcmp(name, "touch") == 0) touch(percent);
  else if (strcmp(name, "churn") == 0) churn(percent);
  else if (strcmp(name, "gentree") == 0 && count == 4) gentree(percent, arguments[3]);
  else return 2;
  return 0;
}
