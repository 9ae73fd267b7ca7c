#include "verbs/interruption.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>

#include "machine/check.h"

namespace node_mesh {
namespace {

constexpr int ending_signals[] = {SIGINT, SIGTERM, SIGHUP};

std::atomic<bool> was_requested = false;
std::atomic<Kickable*> kick_target = nullptr;
int event_descriptor = -1;
static_assert(std::atomic<Kickable*>::is_always_lock_free);

void on_signal(int) {
  const int saved_errno = errno;
  was_requested.store(true);
  const std::uint64_t one = 1;
  if (::write(event_descriptor, &one, sizeof one) < 0) {
    // A full counter is readable already.
  }
  if (Kickable* target = kick_target.load()) target->kick();
  errno = saved_errno;
}

void set_handler(void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  ::sigemptyset(&action.sa_mask);
  for (const int signal : ending_signals)
    ::sigaction(signal, &action, nullptr);
}

}  // namespace

Interruption::Interruption() {
  NM_CHECK(event_descriptor < 0);
  event_descriptor = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  NM_CHECK(event_descriptor >= 0);
  std::signal(SIGPIPE, SIG_IGN);
  set_handler(on_signal);
}

Interruption::~Interruption() {
  set_handler(SIG_DFL);
  ::close(event_descriptor);
  event_descriptor = -1;
  kick_target = nullptr;
}

void Interruption::set_target(Kickable* target) { kick_target.store(target); }
bool Interruption::requested() const { return was_requested.load(); }
int Interruption::descriptor() const { return event_descriptor; }

}  // namespace node_mesh
