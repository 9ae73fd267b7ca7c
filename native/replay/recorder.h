// Drives a machine in real time and writes down all that its future cannot be computed from: when
// virtual time was set to what, what came in and when, and how it ended. Every call happens between
// two instructions, at machine.position(). It never blocks and never waits: its owner sleeps while
// the guest is idle, and brings the outside's input.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "machine/machine.h"
#include "replay/entropy_source.h"
#include "replay/frame_queue.h"
#include "replay/input_sources.h"
#include "replay/log_schema.h"
#include "replay/recording_clock.h"
#include "replay/state_digest.h"

namespace node_mesh {

class ChunkSink {
 public:
  virtual ~ChunkSink() = default;
  virtual void chunk(std::uint64_t number, Bytes bytes) = 0;
};

struct RecorderOptions {
  // How long an event, or console output, may wait for its chunk to be passed on.
  std::uint64_t event_wait_ns_max = 1'000'000'000;
  std::uint64_t output_wait_ns_max = 1'000'000'000;
  // Output and acknowledged input wait for nothing once the guest sleeps. Other events then wait
  // this long, for company: most guests that sleep soon wake and say something.
  bool flush_when_idle = false;
  std::uint64_t idle_event_wait_ns_max = 50'000'000;
  std::size_t chunk_bytes = 64 << 10;            // a chunk is passed on when its events reach this
  std::uint64_t digest_busy_ns = 1'000'000'000;  // of running, between two digests
  EntropySource* entropy = nullptr;              // null: the host's
};

struct RunTotals {
  std::map<std::string_view, std::uint64_t> events;  // by kind
  std::uint64_t chunks = 0;
  std::uint64_t event_count = 0;
};

class Recorder {
 public:
  // No sink: the machine runs the same, but nothing is written down.
  Recorder(Machine& machine, StateDigest& digest, HostClock& host, RecorderOptions options,
           ChunkSink* sink);

  struct Start {
    std::uint64_t chunk = 0;         // the number of the first chunk
    std::uint64_t host_ns = 0;       // the host time at which the guest's time was guest_ns()
    std::uint64_t ns_per_step = 0;   // in force
    InputSources inputs;             // what the log before it has applied
    bool inside_preemption = false;  // the log before it ends between the parts of a forced stop
  };
  void start(Start start);

  enum class Pause : std::uint8_t {
    kicked,  // kick() was called
    idle,    // the guest sleeps: see wake_host_ns()
    ended,   // the guest ended; finish() is to be called
    // The machine cannot go on, see its host_failure(). The log has no end then, and whoever has
    // another copy goes on from what it holds.
    host_failed,
  };
  Pause run();
  // Called while the guest runs, by what takes its output: run() returns a little later, when
  // what belongs to the output was said too.
  void said();
  // For the owner's other threads; async-signal-safe. A kick wants run() to return at once; a tick,
  // given about once a millisecond, when it does no harm to user code that runs directly.
  void kick();
  void tick();

  // The host time at which an idle guest wants to run again; UINT64_MAX: only input wakes it.
  std::uint64_t wake_host_ns() const;
  // The host time at which the current chunk is to be passed on although the guest sleeps;
  // UINT64_MAX: nothing waits. Call run() or flush_if_due() then.
  std::uint64_t flush_host_ns() const;
  // The owner did not run the guest for so long.
  void slept(std::uint64_t ns) { clock_.slept(ns); }

  // Applies it here and now, unless it was applied before. Returns how many bytes the machine took,
  // or nothing when it was not new.
  std::optional<std::size_t> input(std::uint64_t source, std::uint64_t seq,
                                   std::span<const std::byte> bytes);
  // An Ethernet frame for the guest: applied as soon as it has room. False: it was dropped at once;
  // what became of the others is known from take_frame_results().
  bool frame(std::uint64_t source, std::uint64_t seq, Bytes bytes);
  struct FrameResult {
    std::uint64_t source = 0;
    std::uint64_t seq = 0;
    bool accepted = false;  // false: dropped later, or not new
  };
  std::vector<FrameResult> take_frame_results() { return std::exchange(frame_results_, {}); }
  void press_power_button();
  void stop();
  // The end of the log: a last digest, the reason, the last chunk.
  void finish(EndReason reason);
  // Passes the current chunk on when it is due (or in any case).
  void flush_if_due();
  void flush() { flush_at(machine_.position()); }

  static EndReason reason_of(GuestEnd end);
  const RunTotals& totals() const { return totals_; }
  const std::optional<DigestEvent>& last_digest() const { return last_digest_; }
  std::uint64_t next_chunk() const { return chunk_number_; }
  const InputSources& inputs() const { return inputs_; }

 private:
  void on_kick();
  void serve_devices();
  void serve_entropy();
  void serve_frames();
  void set_clock();
  void record_preemption();
  void take_digest();
  void add(Event event);    // and passes the chunk on when it is full
  void write(Event event);  // into the chunk, which has room
  void flush_at(Position last);
  bool digest_due();
  bool has_output() const;
  std::uint64_t event_wait_ns_max() const;

  Machine& machine_;
  StateDigest& digest_;
  HostClock& host_;
  RecordingClock clock_;
  const RecorderOptions options_;
  ChunkSink* const sink_;
  std::atomic<bool> kicked_ = false;

  ChunkEncoder encoder_;
  std::uint64_t chunk_number_ = 0;
  Position chunk_first_;
  std::uint64_t flushed_console_bytes_ = 0;
  std::optional<std::uint64_t> waiting_since_ns_;         // the first event of the chunk
  std::optional<std::uint64_t> output_waiting_since_ns_;  // when output was first seen
  bool answers_outside_ = false;  // somebody outside waits for an event of the chunk
  bool is_idle_ = false;
  bool said_ = false;

  InputSources inputs_;
  HostEntropy host_entropy_;
  std::uint64_t entropy_host_ns_ = 0;  // when entropy may be drawn next
  FrameQueue frames_;
  std::vector<FrameResult> frame_results_;
  std::uint64_t flushed_frames_ = 0;
  std::uint64_t busy_ns_ = 0;  // since the last digest
  std::uint64_t digest_interval_ns_ = 0;
  std::optional<DigestEvent> last_digest_;
  RunTotals totals_;
};

}  // namespace node_mesh
