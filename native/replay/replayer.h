// Drives a machine along the chunks of a log, as fast as it goes, and notices when it does not do
// what was recorded. It never looks at a clock.
#pragma once

#include <atomic>
#include <cstdint>
#include <expected>
#include <optional>

#include "machine/machine.h"
#include "replay/input_sources.h"
#include "replay/log_schema.h"
#include "replay/recorder.h"
#include "replay/state_digest.h"

namespace node_mesh {

class Replayer {
 public:
  // `verify`: compare digests. Without it they are taken over as read, which costs nothing.
  Replayer(Machine& machine, StateDigest& digest, bool verify);

  // The machine is not at power on: it was restored at the begin of this chunk.
  struct Start {
    std::uint64_t chunk = 0;
    std::uint64_t ns_per_step = 0;  // in force
    InputSources inputs;            // what the log before it has applied
  };
  void start(Start start);

  enum class Status : std::uint8_t {
    done,         // the machine is where the chunk ends
    ended,        // the log's end event was reached: see end()
    stopped,      // `until` was reached
    interrupted,  // interrupt() was called; the same call again goes on
    diverged,     // see divergence()
    host_failed,  // the machine cannot go on here: see its host_failure()
  };
  // Chunks come in order; the error says what is wrong with this one. The machine runs to the end
  // of the chunk, or to `until`.
  std::expected<Status, std::string> apply(const Chunk& chunk,
                                           std::optional<Position> until = std::nullopt);
  // From another thread or a signal handler: makes apply() return soon.
  void interrupt();

  const Divergence& divergence() const { return divergence_; }
  std::optional<EndReason> end() const { return end_; }
  const RunTotals& totals() const { return totals_; }
  const InputSources& inputs() const { return inputs_; }
  std::uint64_t next_chunk() const { return next_chunk_; }
  std::uint64_t ns_per_step() const { return ns_per_step_; }
  std::uint64_t digests_compared() const { return digests_compared_; }
  const std::optional<DigestEvent>& last_digest() const { return last_digest_; }
  // Positions at which the state was found equal to the recorded one, the last of them.
  std::optional<Position> last_verified() const { return last_verified_; }

  // A forced stop came in parts and the last of them is still to come: the position stands, and a
  // copy made here would not know of the others.
  bool inside_preemption() const { return !preempted_pages_.empty(); }

  // Told of each event just before it takes effect (supervisors acknowledge inputs).
  class Observer {
   public:
    virtual ~Observer() = default;
    virtual void replayed(const Event& event) = 0;
  };
  void set_observer(Observer* observer) { observer_ = observer; }

 private:
  std::expected<void, std::string> check_order(const Chunk& chunk) const;
  Status run_to(Position target);
  Status apply(const Event& event);
  Status apply_digest(const DigestEvent& recorded);
  Status apply_end(EndReason reason);
  Status apply_preempt(const PreemptEvent& part);
  Status diverge(std::string what);

  Machine& machine_;
  StateDigest& digest_;
  const bool verify_;
  Observer* observer_ = nullptr;
  std::atomic<bool> interrupted_ = false;
  std::uint64_t next_chunk_ = 0;
  std::size_t next_event_ = 0;  // of the chunk that is being applied
  std::uint64_t ns_per_step_ = 0;
  InputSources inputs_;
  std::vector<Preemption::Page> preempted_pages_;  // of the parts before the last
  Divergence divergence_;
  std::optional<EndReason> end_;
  std::optional<DigestEvent> last_digest_;
  std::optional<Position> last_verified_;
  std::uint64_t digests_compared_ = 0;
  RunTotals totals_;
};

}  // namespace node_mesh
