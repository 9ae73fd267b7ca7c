#include "verbs/recording_checkpoints.h"

#include <algorithm>

#include "verbs/verbs.h"

namespace node_mesh {

std::filesystem::path checkpoints_of(const std::filesystem::path& log) {
  return log.string() + ".checkpoints";
}

std::expected<std::unique_ptr<RecordingCheckpoints>, std::string> RecordingCheckpoints::open(
    const std::filesystem::path& log, std::uint64_t interval_ns, Machine& machine,
    const MachineConfig& config, HostClock& host) {
  const std::filesystem::path directory = checkpoints_of(log);
  std::error_code ignored;
  if (std::filesystem::is_directory(directory, ignored)) {
    auto old = list_checkpoints(directory);
    if (!old) return std::unexpected("Cannot use " + old.error() + "; remove it");
    for (const CheckpointFile& one : old->checkpoints)
      std::filesystem::remove(one.path, ignored);
  }
  auto writer = CheckpointWriter::open({directory, 0}, machine);
  if (!writer) return std::unexpected(writer.error() + "; free some space");
  return std::unique_ptr<RecordingCheckpoints>(
      new RecordingCheckpoints(std::move(*writer), interval_ns, config, host));
}

void RecordingCheckpoints::look(Recorder& recorder, const StateDigest& digest) {
  if (const auto result = writer_->poll()) take(*result);
  const std::uint64_t now_ns = host_.now_ns();
  if (now_ns < due_host_ns_ || writer_->busy()) return;
  due_host_ns_ = now_ns + interval_ns_;
  recorder.flush();
  if (auto begun = writer_->begin(digest, {config_, recorder.next_chunk(), recorder.inputs()});
      !begun) {
    fail(begun.error() + "; the recording goes on");
    return;
  }
  // What was flushed is in the log file, which is all that a replay from here needs.
  writer_->release();
}

void RecordingCheckpoints::finish() {
  if (const auto result = writer_->wait()) take(*result);
}

void RecordingCheckpoints::take(const CheckpointWriter::Result& result) {
  if (!result) {
    fail(result.error() + "; the recording goes on");
    return;
  }
  ++totals_.count;
  totals_.bytes += result->bytes;
  totals_.pages += result->pages;
  totals_.pause_ns_max = std::max(totals_.pause_ns_max, result->pause_ns);
  totals_.work_ns_max = std::max(totals_.work_ns_max, result->work_ns);
}

}  // namespace node_mesh
