#include "test/differential/native_runner.h"

#include <asm/prctl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <initializer_list>

#include "machine/check.h"

namespace node_mesh::differential {

struct NativeRunner::Shared {
  std::size_t count;
  std::size_t current;
  std::array<Case, batch_cases> cases;
  std::array<Outcome, batch_cases> outcomes;
};

namespace {

constexpr std::uint64_t trap_flag = 0x100;
constexpr std::uint64_t flag_bits = 0xcd5;  // status, DF
constexpr int breakpoint_vector = 3, debug_vector = 1;
constexpr int batch_timeout_ms = 20000;
constexpr std::size_t signal_stack_bytes = 256 * 1024;
constexpr std::uint8_t int3 = 0xcc;

// The order in which the kernel keeps what we number as the encodings do.
constexpr std::array<int, 16> register_order = {
    REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
    REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

// State of the sandbox process, used by its signal handler.
struct Sandbox {
  Case* cases = nullptr;
  Outcome* outcomes = nullptr;
  std::size_t count = 0;
  std::size_t* current = nullptr;
  bool started = false;
  sigjmp_buf done;
};
Sandbox sandbox;

void* at(std::uint64_t address) { return reinterpret_cast<void*>(address); }

void load_floating_point(const State& state, void* frame) {
  auto* bytes = static_cast<std::uint8_t*>(frame);
  std::memcpy(bytes, state.x87.data(), state.x87.size());
  std::memcpy(bytes + 24, &state.mxcsr, 4);
  std::memcpy(bytes + 160, state.xmm.data(), sizeof state.xmm);
  // The kernel restores only components that the XSAVE header names.
  std::uint64_t components;
  std::memcpy(&components, bytes + 512, 8);
  components |= 3;
  std::memcpy(bytes + 512, &components, 8);
}

void save_floating_point(State& state, const void* frame) {
  const auto* bytes = static_cast<const std::uint8_t*>(frame);
  std::memcpy(state.x87.data(), bytes, state.x87.size());
  std::memcpy(&state.mxcsr, bytes + 24, 4);
  std::memcpy(state.xmm.data(), bytes + 160, sizeof state.xmm);
}

void load(const Case& test, mcontext_t& context) {
  const State& state = test.start;
  std::memcpy(at(data_address), state.data.data(), data_bytes);
  std::memcpy(at(stack_address), state.stack.data(), stack_bytes);
  auto* code = static_cast<std::uint8_t*>(at(state.rip));
  std::memcpy(code, test.native_code.data(), test.length);
  std::memset(code + test.length, int3, 16);
  for (std::size_t i = 0; i < 16; ++i) {
    context.gregs[register_order[i]] = static_cast<greg_t>(state.gpr[i]);
  }
  context.gregs[REG_RIP] = static_cast<greg_t>(state.rip);
  const std::uint64_t trap = test.kind == CaseKind::branch ? trap_flag : 0;
  context.gregs[REG_EFL] = static_cast<greg_t>((state.rflags & flag_bits) | 0x202 | trap);
  load_floating_point(state, context.fpregs);
}

void store(const Case& test, Outcome& outcome, const mcontext_t& context) {
  State& end = outcome.end;
  for (std::size_t i = 0; i < 16; ++i) {
    end.gpr[i] = static_cast<std::uint64_t>(context.gregs[register_order[i]]);
  }
  end.rip = static_cast<std::uint64_t>(context.gregs[REG_RIP]);
  end.rflags = static_cast<std::uint64_t>(context.gregs[REG_EFL]) & flag_bits;
  save_floating_point(end, context.fpregs);
  std::memcpy(end.data.data(), at(data_address), data_bytes);
  std::memcpy(end.stack.data(), at(stack_address), stack_bytes);
  outcome.vector = static_cast<int>(context.gregs[REG_TRAPNO]);
  outcome.error_code = static_cast<std::uint64_t>(context.gregs[REG_ERR]);
  outcome.fault_address = static_cast<std::uint64_t>(context.gregs[REG_CR2]);
  const bool guard =
      outcome.vector == breakpoint_vector && end.rip == test.start.rip + test.length + 1;
  if (guard) {
    end.rip -= 1;
    outcome.vector = no_vector;
  }
  if (test.kind == CaseKind::branch && outcome.vector == debug_vector) outcome.vector = no_vector;
}

void on_signal(int, siginfo_t*, void* context) {
  mcontext_t& machine = static_cast<ucontext_t*>(context)->uc_mcontext;
  std::size_t& current = *sandbox.current;
  if (sandbox.started) {
    store(sandbox.cases[current], sandbox.outcomes[current], machine);
    ++current;
  }
  sandbox.started = true;
  if (current >= sandbox.count) siglongjmp(sandbox.done, 1);
  load(sandbox.cases[current], machine);
}

void map_at(std::uint64_t address, std::size_t bytes, int protection) {
  void* got = mmap(at(address), bytes, protection,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  NM_CHECK(got == at(address));
}

void prepare_sandbox(const Case& any) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  map_at(code_address, code_pages * page, PROT_READ | PROT_WRITE | PROT_EXEC);
  map_at(data_address, data_bytes, PROT_READ | PROT_WRITE);
  map_at(stack_address, stack_bytes, PROT_READ | PROT_WRITE);
  map_at(constant_address, page, PROT_READ | PROT_WRITE);
  std::memcpy(at(constant_address), any.start.constants.data(), page);
  NM_CHECK(mprotect(at(constant_address), page, PROT_READ) == 0);
  NM_CHECK(syscall(SYS_arch_prctl, ARCH_SET_GS, gs_base) == 0);
  stack_t stack{};
  stack.ss_size = signal_stack_bytes;
  stack.ss_sp =
      mmap(nullptr, signal_stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  NM_CHECK(stack.ss_sp != MAP_FAILED && sigaltstack(&stack, nullptr) == 0);
  struct sigaction action {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  for (const int number : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP}) {
    NM_CHECK(sigaction(number, &action, nullptr) == 0);
  }
}

[[noreturn]] void serve(Case* cases, Outcome* outcomes, std::size_t* count, std::size_t* current,
                        int in, int out) {
  prepare_sandbox(cases[0]);
  char byte = 0;
  while (read(in, &byte, 1) == 1) {
    sandbox.cases = cases;
    sandbox.outcomes = outcomes;
    sandbox.count = *count;
    sandbox.current = current;
    sandbox.started = false;
    if (sigsetjmp(sandbox.done, 1) == 0) asm volatile("int3");
    if (write(out, &byte, 1) != 1) break;
  }
  _exit(0);
}

}  // namespace

NativeRunner::NativeRunner() {
  void* memory =
      mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  NM_CHECK(memory != MAP_FAILED);
  shared_ = static_cast<Shared*>(memory);
}

NativeRunner::~NativeRunner() {
  stop();
  munmap(shared_, sizeof(Shared));
}

Case& NativeRunner::input(std::size_t index) { return shared_->cases.at(index); }
const Outcome& NativeRunner::output(std::size_t index) const { return shared_->outcomes.at(index); }

void NativeRunner::start() {
  int request[2], answer[2];
  NM_CHECK(pipe(request) == 0 && pipe(answer) == 0);
  child_ = fork();
  NM_CHECK(child_ >= 0);
  if (child_ == 0) {
    close(request[1]);
    close(answer[0]);
    serve(shared_->cases.data(), shared_->outcomes.data(), &shared_->count, &shared_->current,
          request[0], answer[1]);
  }
  close(request[0]);
  close(answer[1]);
  to_child_ = request[1];
  from_child_ = answer[0];
}

void NativeRunner::stop() {
  if (child_ < 0) return;
  kill(child_, SIGKILL);
  waitpid(child_, nullptr, 0);
  close(to_child_);
  close(from_child_);
  child_ = -1;
}

void NativeRunner::run(std::size_t count) {
  NM_CHECK(count <= batch_cases);
  // A case that kills the sandbox is skipped: the rest is moved to the front for a fresh one.
  shared_->count = count;
  shared_->current = 0;
  while (shared_->current < count) {
    if (child_ < 0) start();
    char byte = 1;
    bool finished = write(to_child_, &byte, 1) == 1;
    pollfd waiting{from_child_, POLLIN, 0};
    finished =
        finished && poll(&waiting, 1, batch_timeout_ms) == 1 && read(from_child_, &byte, 1) == 1;
    if (finished) return;
    stop();
    shared_->outcomes.at(shared_->current).vector = did_not_end;
    ++shared_->current;
  }
}

}  // namespace node_mesh::differential
