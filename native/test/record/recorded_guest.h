// A tiny guest that is recorded under hostile circumstances, drawn from a seed: time that stands
// still and jumps, kicks in the middle of everything, input whenever it comes. What it wrote down
// must replay whatever happened.
#pragma once

#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "replay/recorder.h"
#include "replay/replayer.h"
#include "test/guests/tiny_guest.h"

namespace node_mesh::test {

// Each look at it takes a random while; now and then a long one. Each may also kick the recorder.
class RandomClock final : public HostClock {
 public:
  explicit RandomClock(std::uint64_t seed) : random_(seed) {}
  std::uint64_t now_ns() override;
  void sleep_until(std::uint64_t host_ns);
  void set_recorder(Recorder* recorder) { recorder_ = recorder; }
  std::uint64_t draw(std::uint64_t below) { return random_() % below; }

 private:
  std::mt19937_64 random_;
  std::uint64_t now_ns_ = 1'000'000'000;
  Recorder* recorder_ = nullptr;
};

struct Recording {
  std::vector<Bytes> chunks;
  std::string console;
  std::uint64_t digest = 0;
  EndReason end = EndReason::poweroff;
  RunTotals totals;
};

// Types `typed` in random pieces and ends the recording after `steps_max` at the latest.
Recording record(std::string_view guest, std::string_view typed, std::uint64_t seed,
                 std::uint64_t steps_max);

class Replay {
 public:
  explicit Replay(std::string_view guest);
  Replayer::Status apply(const Chunk& chunk, std::optional<Position> until = std::nullopt);
  // All of them, as far as it goes.
  Replayer::Status apply_all(const std::vector<Bytes>& chunks);

  TinyGuest guest;
  StateDigest digest;
  Replayer replayer;
  std::string error;
};

}  // namespace node_mesh::test
