// The part of a Session that restores its machine from a checkpoint and takes new ones.
#include "checkpoint/checkpoint_loader.h"
#include "replay/log_schema.h"
#include "wire/session.h"

namespace node_mesh {

using nlohmann::json;

Session::Outcome Session::restore_machine(const StartFrame& start) {
  auto restored = restore_checkpoint(*start.checkpoint, *this);
  if (!restored) return std::unexpected("Cannot use " + restored.error());
  if (encode_header(restored->manifest.config) != encode_header(start.config)) {
    return std::unexpected("Cannot use checkpoint \"" + start.checkpoint->string() +
                           "\": it belongs to another machine");
  }
  machine_ = std::move(restored->machine);
  digest_.emplace(std::move(restored->digest));
  restored_from_.emplace(std::move(restored->manifest));
  restored_file_ = *start.checkpoint;
  return {};
}

Session::Outcome Session::on(const CheckpointFrame& frame) {
  if (state_ == State::fresh) return std::unexpected("Cannot checkpoint: there is no machine yet");
  if (auto begun = begin_checkpoint(frame); !begun) {
    send_control("checkpoint_failed", {{"message", begun.error()}});
  }
  return {};
}

std::expected<void, std::string> Session::begin_checkpoint(const CheckpointFrame& frame) {
  if (state_ == State::ended || state_ == State::diverged) {
    return std::unexpected("Cannot checkpoint into \"" + frame.directory.string() +
                           "\": the copy has ended");
  }
  if (!recorder_ && replayer_->inside_preemption()) {
    return std::unexpected("Cannot checkpoint into \"" + frame.directory.string() +
                           "\": a forced stop is replayed in part only; try again");
  }
  const bool usable = checkpoints_ && checkpoints_->directory() == frame.directory &&
                      checkpoints_->keep() == frame.keep;
  if (!usable && checkpoints_ && checkpoints_->busy()) {
    return std::unexpected("Cannot checkpoint into \"" + frame.directory.string() +
                           "\": another one is still being written");
  }
  if (!usable) {
    // What is known of written pages is told relative to the writer that was told last.
    const bool first = checkpoints_ == nullptr;
    auto opened = CheckpointWriter::open({frame.directory, frame.keep}, *machine_);
    if (!opened) return std::unexpected(opened.error());
    checkpoints_ = std::move(*opened);
    if (first && restored_from_) {
      checkpoints_->start_from(*restored_from_, restored_file_);
      restored_from_.reset();
    } else if (!first) {
      checkpoints_->start_over();
    }
  }
  const std::uint64_t start_ns = clock_.now_ns();
  if (recorder_) recorder_->flush();
  const InputSources& inputs = recorder_ ? recorder_->inputs() : replayer_->inputs();
  checkpoint_chunk_ = next_chunk();
  auto begun = checkpoints_->begin(*digest_, {config_, checkpoint_chunk_, inputs});
  if (recorder_) recorder_->slept(clock_.now_ns() - start_ns);
  return begun;
}

void Session::look_after_checkpoint() {
  if (!checkpoints_ || !checkpoints_->busy()) return;
  if (uncommitted_.empty() || uncommitted_.front().number >= checkpoint_chunk_) {
    checkpoints_->release();
  }
  const auto result = checkpoints_->poll();
  if (!result) return;
  if (!*result) {
    send_control("checkpoint_failed", {{"message", result->error()}});
    return;
  }
  const WrittenCheckpoint& written = **result;
  send_control("checkpointed", {{"manifest", hex_of(written.name)},
                                {"chunk", written.chunk},
                                {"steps", written.position.steps},
                                {"user_steps", written.position.user_steps},
                                {"bytes", written.bytes},
                                {"pages", written.pages},
                                {"pause_ms", static_cast<double>(written.pause_ns) / 1e6},
                                {"work_ms", static_cast<double>(written.work_ns) / 1e6}});
}

}  // namespace node_mesh
