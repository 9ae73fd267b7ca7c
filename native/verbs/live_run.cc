#include "verbs/live_run.h"

#include <poll.h>

#include <algorithm>
#include <array>

namespace node_mesh {
namespace {

constexpr std::uint64_t terminal_source = 1;
constexpr std::uint64_t retry_ns = 50'000'000;  // a full input queue, an unread output
constexpr std::uint64_t wait_ns_max = 3'600'000'000'000;

}  // namespace

LiveRun::LiveRun(Recorder& recorder, HostClock& host, ConsoleOutput& output, ConsoleInput& input,
                 Interruption& interruption, Options options)
    : recorder_(recorder),
      host_(host),
      output_(output),
      input_(input),
      interruption_(interruption),
      ticker_([this] { recorder_.tick(); }) {
  if (options.timeout_ns) end_host_ns_ = host_.now_ns() + *options.timeout_ns;
  interruption_.set_target(this);
}

LiveRun::~LiveRun() { interruption_.set_target(nullptr); }

std::optional<EndReason> LiveRun::run(Machine& machine, const std::function<bool()>& end_early) {
  EndReason reason = EndReason::signal;
  for (;;) {
    take_input();
    if (const auto outside = ended_from_outside()) {
      reason = *outside;
      break;
    }
    if (end_early()) break;
    if (output_.behind()) {
      wait(host_.now_ns() + retry_ns);
      continue;
    }
    ticker_.arm();
    const Recorder::Pause pause = recorder_.run();
    output_.write_some();
    if (pause == Recorder::Pause::ended) {
      reason = Recorder::reason_of(machine.end());
      break;
    }
    if (pause == Recorder::Pause::host_failed) {
      ticker_.disarm();
      recorder_.flush();
      return std::nullopt;
    }
    if (pause == Recorder::Pause::idle) {
      ticker_.disarm();
      wait(recorder_.wake_host_ns());
    }
  }
  ticker_.disarm();
  recorder_.finish(reason);
  while (output_.pending() > 0 && !output_.failure() && !interruption_.requested()) {
    wait(host_.now_ns() + retry_ns);
  }
  return reason;
}

std::optional<EndReason> LiveRun::ended_from_outside() {
  if (interruption_.requested() || input_.quit_requested() || output_.failure()) {
    return EndReason::signal;
  }
  if (host_.now_ns() >= end_host_ns_) return EndReason::timeout;
  return std::nullopt;
}

void LiveRun::take_input() {
  const std::uint64_t now_ns = host_.now_ns();
  if (!typed_.empty() && now_ns < retry_host_ns_) return;
  retry_host_ns_ = now_ns + retry_ns;
  if (typed_.empty()) typed_ = input_.read_some();
  if (typed_.empty()) return;
  const std::size_t taken = recorder_.input(terminal_source, ++input_seq_, typed_).value_or(0);
  typed_.erase(typed_.begin(), typed_.begin() + static_cast<std::ptrdiff_t>(taken));
}

void LiveRun::wait(std::uint64_t wake_host_ns) {
  const std::uint64_t start_ns = host_.now_ns();
  // The guest has no room for what was typed: there is nothing to wait for on stdin.
  if (!typed_.empty()) wake_host_ns = std::min(wake_host_ns, start_ns + retry_ns);
  wake_host_ns = std::min(wake_host_ns, end_host_ns_);
  if (wake_host_ns <= start_ns) return;
  std::array<pollfd, 3> waited = {
      pollfd{interruption_.descriptor(), POLLIN, 0},
      pollfd{typed_.empty() ? input_.fd() : -1, POLLIN, 0},
      pollfd{output_.pending() > 0 ? output_.fd() : -1, POLLOUT, 0},
  };
  const std::uint64_t wait_ns = std::min(wake_host_ns - start_ns, wait_ns_max);
  const timespec time_out{static_cast<time_t>(wait_ns / 1'000'000'000),
                          static_cast<long>(wait_ns % 1'000'000'000)};
  ::ppoll(waited.data(), waited.size(), &time_out, nullptr);
  output_.write_some();
  recorder_.slept(host_.now_ns() - start_ns);
}

}  // namespace node_mesh
