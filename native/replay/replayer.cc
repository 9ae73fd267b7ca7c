#include "replay/replayer.h"

#include <utility>

#include "machine/format_text.h"

namespace node_mesh {
namespace {

std::string text_of(Position position) {
  return format_text("%llu:%llu", static_cast<unsigned long long>(position.steps),
                     static_cast<unsigned long long>(position.user_steps));
}

bool ends_by_itself(EndReason reason) {
  return reason == EndReason::poweroff || reason == EndReason::reboot ||
         reason == EndReason::triple_fault || reason == EndReason::unsupported;
}

}  // namespace

Replayer::Replayer(Machine& machine, StateDigest& digest, bool verify)
    : machine_(machine), digest_(digest), verify_(verify) {}

void Replayer::start(Start start) {
  next_chunk_ = start.chunk;
  ns_per_step_ = start.ns_per_step;
  inputs_ = std::move(start.inputs);
}

void Replayer::interrupt() {
  interrupted_.store(true, std::memory_order_relaxed);
  machine_.request_stop();
}

Replayer::Status Replayer::diverge(std::string what) {
  divergence_.what = std::move(what);
  divergence_.chunk = next_chunk_;
  divergence_.at = machine_.position();
  return Status::diverged;
}

std::expected<void, std::string> Replayer::check_order(const Chunk& chunk) const {
  if (end_) return std::unexpected("a chunk follows the log's end");
  if (chunk.number != next_chunk_) {
    return std::unexpected("chunk " + std::to_string(chunk.number) + " came where chunk " +
                           std::to_string(next_chunk_) + " was due");
  }
  if (next_event_ == 0 && machine_.position() < chunk.first) {
    return std::unexpected("chunk " + std::to_string(chunk.number) + " begins at " +
                           text_of(chunk.first) + ", after where the chunk before it ended");
  }
  return {};
}

std::expected<Replayer::Status, std::string> Replayer::apply(const Chunk& chunk,
                                                             std::optional<Position> until) {
  if (auto ordered = check_order(chunk); !ordered) return std::unexpected(ordered.error());
  for (; next_event_ < chunk.events.size(); ++next_event_) {
    const Event& event = chunk.events[next_event_];
    if (until && event.at > *until) break;
    if (const Status status = run_to(event.at); status != Status::done) return status;
    if (const Status status = apply(event); status != Status::done) return status;
  }
  const Position target = until ? std::min(*until, chunk.last) : chunk.last;
  if (const Status status = run_to(target); status != Status::done) return status;
  if (until && *until <= chunk.last) return Status::stopped;
  if (machine_.console_bytes() != chunk.console_bytes) {
    return diverge(format_text("the guest wrote %llu console bytes, %llu were recorded",
                               static_cast<unsigned long long>(machine_.console_bytes()),
                               static_cast<unsigned long long>(chunk.console_bytes)));
  }
  if (machine_.frames_sent() != chunk.frames) {
    return diverge(format_text("the guest sent %llu Ethernet frames, %llu were recorded",
                               static_cast<unsigned long long>(machine_.frames_sent()),
                               static_cast<unsigned long long>(chunk.frames)));
  }
  ++next_chunk_;
  ++totals_.chunks;
  next_event_ = 0;
  return end_ ? Status::ended : Status::done;
}

Replayer::Status Replayer::run_to(Position target) {
  while (machine_.position() < target) {
    const MachineExit exit = machine_.run(target, nullptr);
    if (interrupted_.exchange(false, std::memory_order_relaxed)) return Status::interrupted;
    const Position at = machine_.position();
    if (at >= target) break;
    if (exit == MachineExit::host_failed) return Status::host_failed;
    if (exit == MachineExit::idle) {
      return diverge("the guest went to sleep here, the recorded one ran on to " + text_of(target));
    }
    if (exit == MachineExit::ended) {
      return diverge("the guest ended here, the recorded one ran on to " + text_of(target));
    }
  }
  if (machine_.position() != target) {
    return diverge("the guest ran past the recorded position " + text_of(target));
  }
  return Status::done;
}

Replayer::Status Replayer::apply(const Event& event) {
  ++totals_.events[event_kind_name(event.kind())];
  ++totals_.event_count;
  if (observer_ != nullptr) observer_->replayed(event);
  // Its primary died in front of the last part, and the next one went on as if there had been none.
  if (event.kind() != EventKind::preempt) preempted_pages_.clear();
  if (const auto* clock = std::get_if<ClockEvent>(&event.body)) {
    if (clock->ns < machine_.guest_ns()) {
      return diverge(format_text("the guest's time is %llu ns, the clock was set to %llu ns",
                                 static_cast<unsigned long long>(machine_.guest_ns()),
                                 static_cast<unsigned long long>(clock->ns)));
    }
    machine_.set_clock({clock->ns, clock->ns_per_step});
    ns_per_step_ = clock->ns_per_step;
  } else if (const auto* input = std::get_if<InputEvent>(&event.body)) {
    machine_.console_input(input->bytes);
    inputs_.note(input->source, input->seq);
  } else if (const auto* frame = std::get_if<FrameEvent>(&event.body)) {
    machine_.network_input(frame->bytes);
    inputs_.note(frame->source, frame->seq);
  } else if (const auto* entropy = std::get_if<EntropyEvent>(&event.body)) {
    machine_.entropy_input(entropy->bytes);
  } else if (const auto* control = std::get_if<ControlEvent>(&event.body)) {
    if (control->action == ControlKind::power_button) machine_.press_power_button();
  } else if (const auto* digest = std::get_if<DigestEvent>(&event.body)) {
    return apply_digest(*digest);
  } else if (const auto* preempt = std::get_if<PreemptEvent>(&event.body)) {
    return apply_preempt(*preempt);
  } else if (const auto* end = std::get_if<EndEvent>(&event.body)) {
    return apply_end(end->reason);
  }
  return Status::done;
}

// Nothing changes before the last part is there: whoever goes live in front of it goes on from the
// position of the stop as if there had been none.
Replayer::Status Replayer::apply_preempt(const PreemptEvent& part) {
  const auto& known = preempted_pages_;
  if (!known.empty() && !part.pages.empty() && part.pages.front().gfn <= known.back().gfn) {
    return diverge("the parts of a forced stop do not follow each other");
  }
  for (const Preemption::Page& page : part.pages) {
    if (!machine_.memory().contains(page.gfn * page_bytes, page_bytes)) {
      return diverge("a forced stop changed a page that this machine does not have");
    }
  }
  preempted_pages_.insert(preempted_pages_.end(), part.pages.begin(), part.pages.end());
  if (!part.state) return Status::done;
  const Preemption whole{*part.state, std::exchange(preempted_pages_, {})};
  if (!machine_.apply_preemption(whole)) {
    return diverge("a forced stop was recorded where this guest is not in user mode");
  }
  return Status::done;
}

Replayer::Status Replayer::apply_digest(const DigestEvent& recorded) {
  if (!verify_) {
    last_digest_ = recorded;
    return Status::done;
  }
  last_digest_ = digest_.take(machine_);
  ++digests_compared_;
  Divergence difference = compare_digests(recorded, *last_digest_, digest_.changed_pages());
  if (difference.what.empty()) {
    last_verified_ = machine_.position();
    return Status::done;
  }
  divergence_ = std::move(difference);
  return diverge(divergence_.what);
}

Replayer::Status Replayer::apply_end(EndReason reason) {
  if (ends_by_itself(reason)) {
    // The machine may not have looked yet: a limit can stop it right behind its last instruction.
    const Position at = machine_.position();
    if (machine_.end() == GuestEnd::none) machine_.run({at.steps + 1, 0}, nullptr);
    if (machine_.end() == GuestEnd::none || machine_.position() != at) {
      return diverge("the guest goes on where the recorded one ended");
    }
    if (Recorder::reason_of(machine_.end()) != reason) {
      return diverge("the guest ended here in another way than the recorded one");
    }
  }
  end_ = reason;
  return Status::done;
}

}  // namespace node_mesh
