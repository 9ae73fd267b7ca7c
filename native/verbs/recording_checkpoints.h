// Checkpoints beside a recording, in LOG.checkpoints: one every so often, written by a process of
// its own while the guest goes on. A checkpoint that fails is reported and the recording goes on.
#pragma once

#include <cstdint>
#include <expected>
#include <filesystem>
#include <memory>
#include <string>

#include "checkpoint/checkpoint_writer.h"
#include "replay/host_clock.h"
#include "replay/recorder.h"

namespace node_mesh {

std::filesystem::path checkpoints_of(const std::filesystem::path& log);

struct CheckpointTotals {
  std::uint64_t count = 0;
  std::uint64_t bytes = 0;
  std::uint64_t pages = 0;
  std::uint64_t pause_ns_max = 0;
  std::uint64_t work_ns_max = 0;
};

class RecordingCheckpoints {
 public:
  // Removes the checkpoints of a log that was there before. The error is a whole line.
  static std::expected<std::unique_ptr<RecordingCheckpoints>, std::string> open(
      const std::filesystem::path& log, std::uint64_t interval_ns, Machine& machine,
      const MachineConfig& config, HostClock& host);

  // To be called between two stretches of the guest; takes one when it is due.
  void look(Recorder& recorder, const StateDigest& digest);
  // Waits for the one that is being written.
  void finish();
  const CheckpointTotals& totals() const { return totals_; }

 private:
  RecordingCheckpoints(std::unique_ptr<CheckpointWriter> writer, std::uint64_t interval_ns,
                       MachineConfig config, HostClock& host)
      : writer_(std::move(writer)),
        interval_ns_(interval_ns),
        config_(std::move(config)),
        host_(host),
        due_host_ns_(host.now_ns() + interval_ns) {}
  void take(const CheckpointWriter::Result& result);

  std::unique_ptr<CheckpointWriter> writer_;
  const std::uint64_t interval_ns_;
  const MachineConfig config_;
  HostClock& host_;
  std::uint64_t due_host_ns_;
  CheckpointTotals totals_;
};

}  // namespace node_mesh
