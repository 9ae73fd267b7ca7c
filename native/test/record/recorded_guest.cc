#include "recorded_guest.h"

#include <algorithm>

#include "replay/ticker.h"

namespace node_mesh::test {
namespace {

class Collector final : public ChunkSink {
 public:
  explicit Collector(std::vector<Bytes>& chunks) : chunks_(chunks) {}
  void chunk(std::uint64_t, Bytes bytes) override { chunks_.push_back(std::move(bytes)); }

 private:
  std::vector<Bytes>& chunks_;
};

// Small enough that a guest of a millisecond has many digests and chunks.
RecorderOptions small_options(RandomClock& clock) {
  RecorderOptions options;
  options.event_wait_ns_max = 1'000'000 + clock.draw(10'000'000);
  options.output_wait_ns_max = clock.draw(5'000'000);
  options.flush_when_idle = clock.draw(2) == 0;
  options.chunk_bytes = 64 << clock.draw(8);
  options.digest_busy_ns = 200'000 + clock.draw(2'000'000);
  return options;
}

}  // namespace

std::uint64_t RandomClock::now_ns() {
  now_ns_ += draw(40) == 0 ? draw(3'000'000) : draw(2'000);
  if (recorder_ != nullptr && draw(5) == 0) recorder_->kick();
  return now_ns_;
}

void RandomClock::sleep_until(std::uint64_t host_ns) {
  now_ns_ = std::max(now_ns_, host_ns) + draw(100'000);
}

Recording record(std::string_view name, std::string_view typed, std::uint64_t seed,
                 std::uint64_t steps_max) {
  Recording recording;
  RandomClock clock(seed);
  TinyGuest guest(name);
  Machine& machine = guest.machine();
  StateDigest digest(machine.memory().page_count());
  Collector sink(recording.chunks);
  Recorder recorder(machine, digest, clock, small_options(clock), &sink);
  recorder.start({0, clock.now_ns(), 0, {}});
  clock.set_recorder(&recorder);
  // A guest that never looks at the time is kicked at places that no seed decides.
  Ticker ticker([&] { recorder.kick(); });
  ticker.arm();
  std::uint64_t seq = 0;
  for (;;) {
    const Recorder::Pause pause = recorder.run();
    if (pause == Recorder::Pause::ended) {
      recording.end = Recorder::reason_of(machine.end());
      break;
    }
    const bool sleeps = pause == Recorder::Pause::idle && recorder.wake_host_ns() == UINT64_MAX;
    if (machine.position().steps > steps_max || (sleeps && typed.empty())) {
      recording.end = EndReason::timeout;
      break;
    }
    if (!typed.empty() && (sleeps || clock.draw(3) == 0)) {
      const auto piece = typed.substr(0, 1 + clock.draw(5));
      recorder.input(7, ++seq, as_byte_span(piece));
      recorder.input(7, seq, as_byte_span(piece));  // sent again: ignored
      typed.remove_prefix(piece.size());
    } else if (pause == Recorder::Pause::idle) {
      clock.sleep_until(recorder.wake_host_ns());
    }
  }
  ticker.disarm();
  recorder.finish(recording.end);
  clock.set_recorder(nullptr);
  recording.console = guest.console();
  recording.digest = digest_summary(*recorder.last_digest());
  recording.totals = recorder.totals();
  return recording;
}

Replay::Replay(std::string_view name)
    : guest(name),
      digest(guest.machine().memory().page_count()),
      replayer(guest.machine(), digest, true) {}

Replayer::Status Replay::apply(const Chunk& chunk, std::optional<Position> until) {
  const auto status = replayer.apply(chunk, until);
  if (status) return *status;
  error = status.error();
  return Replayer::Status::diverged;
}

Replayer::Status Replay::apply_all(const std::vector<Bytes>& chunks) {
  auto status = Replayer::Status::done;
  for (const Bytes& bytes : chunks) {
    const auto chunk = decode_chunk(bytes);
    if (!chunk) {
      error = chunk.error();
      return Replayer::Status::diverged;
    }
    status = apply(*chunk);
    if (status != Replayer::Status::done) break;
  }
  return status;
}

}  // namespace node_mesh::test
