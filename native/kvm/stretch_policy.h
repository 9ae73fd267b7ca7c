// Which engine a stretch of user mode begins in, and for how long: by what the same place did
// before and by what entering the vCPU costs on this host. It sees host time and may differ from
// run to run; nothing that the guest or a log could see depends on it.
#pragma once

#include <array>
#include <cstdint>

namespace node_mesh {

class StretchPolicy {
 public:
  explicit StretchPolicy(std::uint64_t round_trip_ns);

  // Instructions to run in software first, for a stretch that begins with these registers.
  std::uint64_t software_first(std::uint64_t rip, std::uint64_t rsp);
  // The vCPU came back after `ns` in front of an instruction that it cannot run.
  void note_trap(std::uint64_t ns);
  std::uint64_t software_after_trap() const { return burst_; }
  // The part of a stretch that the vCPU ran took `ns` in all.
  void note_stretch(std::uint64_t ns);
  // The stretch was stopped by force: whoever goes on there runs long.
  void note_forced_stop(std::uint64_t rip, std::uint64_t rsp);

 private:
  struct Place {
    std::uint64_t key = 0;
    int score = 0;  // above 0: long stretches
  };
  static constexpr int score_max = 4, score_min = -4;
  static constexpr std::uint64_t burst_min = 1000, burst_max = 64000;

  Place& place(std::uint64_t rip, std::uint64_t rsp);

  std::uint64_t software_instructions_;
  std::uint64_t long_ns_;
  std::uint64_t burst_ = burst_min;
  Place* current_ = nullptr;
  std::array<Place, 4096> places_{};
};

}  // namespace node_mesh
