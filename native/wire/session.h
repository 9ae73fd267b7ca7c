// One copy of a machine on behalf of a node: first it follows the log that the node sends, then,
// told to go live, it records from that very position on. Runs on one thread; the Channel has
// another.
//
// What it sends about the guest keeps an order: a recorded chunk, then the console output and the
// acknowledged inputs that it covers. So whatever follows a chunk may be released once that chunk
// is committed. A live guest waits while too much is not committed, or the node does not read.
#pragma once

#include <deque>
#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/checkpoint_writer.h"
#include "kvm/engine_choice.h"
#include "replay/recorder.h"
#include "replay/replayer.h"
#include "replay/ticker.h"
#include "wire/channel.h"
#include "wire/output_delay.h"

namespace node_mesh {

inline constexpr std::uint64_t uncommitted_bytes_max = 4 << 20;
inline constexpr std::uint64_t uncommitted_ns_max = 1'000'000'000;
inline constexpr std::uint64_t progress_interval_ns = 1'000'000'000;

class Session final : ConsoleSink, NetworkSink, ChunkSink, Replayer::Observer {
 public:
  Session(Channel& channel, HostClock& clock) : channel_(channel), clock_(clock) {}
  ~Session() override;

  // Serves until the node says so or is gone; the result is the exit status.
  int run();

 private:
  enum class State : std::uint8_t { fresh, following, live, ended, diverged };
  using Outcome = std::expected<void, std::string>;

  // One frame; the error ends the session.
  Outcome handle(Channel::Arrival arrival);
  Outcome on(StartFrame& frame);
  Outcome on(ChunkFrame& frame);
  Outcome on(const GoLiveFrame& frame);
  Outcome on(const InputFrame& frame);
  Outcome on(NetworkFrame& frame);
  Outcome on(const StopFrame& frame);
  Outcome on(const PowerButtonFrame& frame);
  Outcome on(const CommittedFrame& frame);
  Outcome on(const CheckpointFrame& frame);
  Outcome on(const StatsFrame& frame);
  Outcome on(const ShutdownFrame& frame);
  Outcome create_machine(const StartFrame& start);
  Outcome restore_machine(const StartFrame& start);
  std::expected<void, std::string> begin_checkpoint(const CheckpointFrame& frame);
  void look_after_checkpoint();
  void run_live();
  void finish(EndReason reason);

  void send_control(const char* kind, nlohmann::json fields);
  void send_what_waited();
  void send_progress(bool at_once);
  void send_ended(EndReason reason);
  bool must_wait() const;
  std::uint64_t next_chunk() const;

  void said();
  void console_output(std::uint64_t offset, std::span<const std::byte> bytes) override;
  void network_output(std::uint64_t number, std::span<const std::byte> frame) override;
  void send_frames();
  void chunk(std::uint64_t number, Bytes bytes) override;
  void replayed(const Event& event) override;

  struct Uncommitted {
    std::uint64_t number = 0;
    std::size_t bytes = 0;
    std::uint64_t host_ns = 0;
    std::uint64_t output_host_ns = 0;  // of the first byte said in it; 0: there is none
  };
  struct AppliedInput {
    std::uint64_t source = 0;
    std::uint64_t seq = 0;
    std::size_t accepted = 0;
  };

  Channel& channel_;
  HostClock& clock_;
  State state_ = State::fresh;
  bool shutdown_ = false;
  std::uint64_t initial_ns_per_step_ = 0;
  std::unique_ptr<Machine> machine_;
  EngineChoice engine_;
  std::optional<StateDigest> digest_;
  std::optional<Replayer> replayer_;
  MachineConfig config_;
  std::optional<Manifest> restored_from_;
  std::filesystem::path restored_file_;
  std::optional<Recorder> recorder_;
  std::optional<Ticker> ticker_;  // after the recorder, which it kicks
  std::uint64_t last_chunk_host_ns_ = 0;

  Bytes output_;  // since the last chunk
  std::uint64_t output_offset_ = 0;
  std::uint64_t output_host_ns_ = 0;  // when its first byte was said
  std::vector<Bytes> frames_;         // encoded, since the last chunk
  std::size_t frames_bytes_ = 0;
  std::vector<AppliedInput> applied_;
  std::vector<Recorder::FrameResult> frame_results_;
  std::deque<Uncommitted> uncommitted_;
  std::unique_ptr<CheckpointWriter> checkpoints_;
  std::uint64_t checkpoint_chunk_ = 0;  // the one being written waits for all chunks before it
  std::uint64_t uncommitted_bytes_ = 0;
  OutputDelay output_delay_;
  std::uint64_t arrival_host_ns_ = 0;  // of the frame that is being handled
  bool idle_ = false;
  std::uint64_t progress_host_ns_ = 0;
  std::optional<std::pair<Position, std::uint64_t>> progress_sent_;  // position and chunk then
};

}  // namespace node_mesh
