#include "replay/recorder.h"

#include <algorithm>

#include "kvm/user_engine.h"
#include "machine/check.h"

namespace node_mesh {
namespace {

// Digests may take this part of the running time: they come less often while much memory changes.
constexpr std::uint64_t digest_cost_divisor = 200;
constexpr std::uint64_t digest_interval_factor_max = 8;
// How fast a guest may draw entropy: what it gets is in the log for ever.
constexpr std::uint64_t entropy_byte_ns = 50'000;
constexpr Position far_away{counter_max, 0};
// Enough for a driver to fill the serial port's queue, or the network card's; some 20 us.
constexpr std::uint64_t said_steps_max = 3'000;

}  // namespace

Recorder::Recorder(Machine& machine, StateDigest& digest, HostClock& host, RecorderOptions options,
                   ChunkSink* sink)
    : machine_(machine),
      digest_(digest),
      host_(host),
      clock_(host),
      options_(options),
      sink_(sink),
      digest_interval_ns_(options.digest_busy_ns) {}

void Recorder::start(Start start) {
  clock_.start(machine_.guest_ns(), start.host_ns, machine_.position(), start.ns_per_step);
  inputs_ = std::move(start.inputs);
  chunk_number_ = start.chunk;
  chunk_first_ = machine_.position();
  flushed_console_bytes_ = machine_.console_bytes();
  flushed_frames_ = machine_.frames_sent();
  encoder_.begin(chunk_number_, chunk_first_);
  // Any other event says that the stop's last part never came: it took no effect.
  if (start.inside_preemption) set_clock();
}

void Recorder::kick() {
  kicked_.store(true, std::memory_order_relaxed);
  machine_.request_stop();
}

void Recorder::tick() {
  kicked_.store(true, std::memory_order_relaxed);
  machine_.request_tick();
}

void Recorder::said() {
  said_ = true;
  machine_.request_stop();
}

Recorder::Pause Recorder::run() {
  const std::uint64_t start_ns = host_.now_ns();
  const auto pause = [&](Pause why) {
    busy_ns_ += host_.now_ns() - start_ns;
    if (why == Pause::kicked) on_kick();
    is_idle_ = why == Pause::idle;
    if (is_idle_ && options_.flush_when_idle && (answers_outside_ || has_output())) flush();
    flush_if_due();
    return why;
  };
  for (;;) {
    serve_devices();
    const Position limit =
        said_ ? Position{machine_.position().steps + said_steps_max, 0} : far_away;
    switch (machine_.run(limit, &clock_)) {
      case MachineExit::time_read:
        set_clock();
        break;
      case MachineExit::idle:
        if (clock_.real_guest_ns() < machine_.next_deadline_ns()) return pause(Pause::idle);
        set_clock();
        break;
      case MachineExit::ended:
        return pause(Pause::ended);
      case MachineExit::host_failed:
        return Pause::host_failed;
      case MachineExit::preempted:
        record_preemption();
        kicked_.store(false, std::memory_order_relaxed);
        return pause(Pause::kicked);
      case MachineExit::kicked:
      case MachineExit::entropy_wanted:
      case MachineExit::network_ready:
        break;
      case MachineExit::limit:
        NM_CHECK(said_);  // no guest runs as far as the other limit
        return pause(Pause::kicked);
    }
    if (kicked_.exchange(false, std::memory_order_relaxed)) return pause(Pause::kicked);
  }
}

void Recorder::on_kick() {
  if (clock_.sync_due_for_devices(machine_.guest_ns(), machine_.next_deadline_ns())) set_clock();
  if (digest_due()) take_digest();
}

std::uint64_t Recorder::wake_host_ns() const {
  const std::uint64_t deadline_ns = machine_.next_deadline_ns();
  const std::uint64_t wake_ns =
      deadline_ns == UINT64_MAX ? UINT64_MAX : clock_.host_ns_at(deadline_ns);
  return machine_.entropy_wanted() == 0 ? wake_ns : std::min(wake_ns, entropy_host_ns_);
}

// What the guest's devices wait for from outside.
void Recorder::serve_devices() {
  serve_entropy();
  serve_frames();
}

void Recorder::serve_entropy() {
  while (const std::uint32_t wanted = machine_.entropy_wanted()) {
    const std::uint64_t now_ns = host_.now_ns();
    if (now_ns < entropy_host_ns_) return;
    Bytes bytes(wanted);
    EntropySource* source = options_.entropy != nullptr ? options_.entropy : &host_entropy_;
    source->fill(bytes);
    entropy_host_ns_ = now_ns + wanted * entropy_byte_ns;
    const Position at = machine_.position();
    machine_.entropy_input(bytes);
    add({at, EntropyEvent{std::move(bytes)}});
  }
}

bool Recorder::frame(std::uint64_t source, std::uint64_t seq, Bytes bytes) {
  const bool fits = bytes.size() >= frame_event_bytes_min && bytes.size() <= frame_event_bytes_max;
  return fits && machine_.network_up() && frames_.add({source, seq, std::move(bytes)});
}

void Recorder::serve_frames() {
  if (frames_.empty()) return;
  if (machine_.network_ready() && clock_.sync_due(machine_.guest_ns())) set_clock();
  while (!frames_.empty() && (machine_.network_ready() || !machine_.network_up())) {
    WaitingFrame frame = frames_.take();
    const bool applied = machine_.network_ready() && inputs_.is_new(frame.source, frame.seq);
    frame_results_.push_back({frame.source, frame.seq, applied});
    if (!applied) continue;
    inputs_.note(frame.source, frame.seq);
    machine_.network_input(frame.bytes);
    add({machine_.position(), FrameEvent{frame.source, frame.seq, std::move(frame.bytes)}});
  }
  if (!frames_.empty()) machine_.stop_when_network_ready();
}

void Recorder::press_power_button() {
  if (clock_.sync_due(machine_.guest_ns())) set_clock();
  machine_.press_power_button();
  add({machine_.position(), ControlEvent{ControlKind::power_button}});
}

// In parts that each fit into a chunk that the group can carry. Memory is already as the stretch
// left it; the position is still that in front of it, at which all parts stand.
void Recorder::record_preemption() {
  const Position at = machine_.position();
  const std::unique_ptr<Preemption> forced = machine_.take_preemption();
  if (sink_ == nullptr) return;
  if (encoder_.payload_bytes() >= options_.chunk_bytes) flush_at(at);
  std::span<Preemption::Page> pages(forced->pages);
  while (pages.size() > preempt_pages_max) {
    const auto part = pages.first(preempt_pages_max);
    write({at, PreemptEvent{std::nullopt, {part.begin(), part.end()}}});
    flush_at(at);
    pages = pages.subspan(preempt_pages_max);
  }
  add({at, PreemptEvent{forced->state, {pages.begin(), pages.end()}}});
}

void Recorder::set_clock() {
  const ClockSetting setting = clock_.setting(machine_.position(), machine_.guest_ns());
  machine_.set_clock(setting);
  add({machine_.position(), ClockEvent{setting.ns, setting.ns_per_step}});
}

std::optional<std::size_t> Recorder::input(std::uint64_t source, std::uint64_t seq,
                                           std::span<const std::byte> bytes) {
  if (!inputs_.is_new(source, seq)) return std::nullopt;
  // Input reaches the guest in real time, however far virtual time lagged behind.
  if (clock_.sync_due(machine_.guest_ns())) set_clock();
  const std::size_t taken = machine_.console_input(bytes);
  inputs_.note(source, seq);
  const auto recorded = bytes.first(taken);
  add({machine_.position(), InputEvent{source, seq, Bytes(recorded.begin(), recorded.end())}});
  return taken;
}

void Recorder::stop() { add({machine_.position(), ControlEvent{ControlKind::stop}}); }

bool Recorder::digest_due() {
  if (sink_ == nullptr || busy_ns_ < digest_interval_ns_) return false;
  // A position inside a stretch of user code is a poor one for engines that do not count there.
  return machine_.position().user_steps == 0 || busy_ns_ > 2 * digest_interval_ns_;
}

void Recorder::take_digest() {
  const std::uint64_t start_ns = host_.now_ns();
  last_digest_ = digest_.take(machine_);
  const std::uint64_t cost_ns = host_.now_ns() - start_ns;
  digest_interval_ns_ = std::clamp(cost_ns * digest_cost_divisor, options_.digest_busy_ns,
                                   options_.digest_busy_ns * digest_interval_factor_max);
  busy_ns_ = 0;
  add({machine_.position(), *last_digest_});
}

void Recorder::finish(EndReason reason) {
  take_digest();
  add({machine_.position(), EndEvent{reason}});
  flush();
}

void Recorder::add(Event event) {
  write(std::move(event));
  if (encoder_.full()) flush();
}

void Recorder::write(Event event) {
  if (sink_ == nullptr) return;
  ++totals_.events[event_kind_name(event.kind())];
  ++totals_.event_count;
  encoder_.add(event);
  answers_outside_ = answers_outside_ || std::holds_alternative<InputEvent>(event.body) ||
                     std::holds_alternative<FrameEvent>(event.body);
  if (!waiting_since_ns_) waiting_since_ns_ = host_.now_ns();
}

bool Recorder::has_output() const {
  return machine_.console_bytes() != flushed_console_bytes_ ||
         machine_.frames_sent() != flushed_frames_;
}

std::uint64_t Recorder::event_wait_ns_max() const {
  return is_idle_ && options_.flush_when_idle ? options_.idle_event_wait_ns_max
                                              : options_.event_wait_ns_max;
}

std::uint64_t Recorder::flush_host_ns() const {
  if (!waiting_since_ns_) return UINT64_MAX;
  return *waiting_since_ns_ + event_wait_ns_max();
}

void Recorder::flush_if_due() {
  if (sink_ == nullptr) return;
  if (!waiting_since_ns_ && !has_output()) return;
  const std::uint64_t now_ns = host_.now_ns();
  if (has_output() && !output_waiting_since_ns_) output_waiting_since_ns_ = now_ns;
  const auto waited = [&](const std::optional<std::uint64_t>& since, std::uint64_t max_ns) {
    return since && now_ns - *since >= max_ns;
  };
  if (encoder_.payload_bytes() >= options_.chunk_bytes ||
      waited(waiting_since_ns_, event_wait_ns_max()) ||
      waited(output_waiting_since_ns_, options_.output_wait_ns_max)) {
    flush();
  }
}

void Recorder::flush_at(Position last) {
  if (sink_ == nullptr) return;
  if (encoder_.event_count() == 0 && last == chunk_first_) return;
  flushed_console_bytes_ = machine_.console_bytes();
  flushed_frames_ = machine_.frames_sent();
  sink_->chunk(chunk_number_, encoder_.finish(last, {flushed_console_bytes_, flushed_frames_}));
  ++totals_.chunks;
  waiting_since_ns_.reset();
  output_waiting_since_ns_.reset();
  answers_outside_ = false;
  said_ = false;
  chunk_first_ = last;
  encoder_.begin(++chunk_number_, chunk_first_);
}

EndReason Recorder::reason_of(GuestEnd end) {
  switch (end) {
    case GuestEnd::reboot:
      return EndReason::reboot;
    case GuestEnd::triple_fault:
      return EndReason::triple_fault;
    case GuestEnd::unsupported:
      return EndReason::unsupported;
    case GuestEnd::none:
    case GuestEnd::poweroff:
    case GuestEnd::halted_forever:
      break;
  }
  return EndReason::poweroff;
}

}  // namespace node_mesh
