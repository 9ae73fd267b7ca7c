// What a run came to, for --stats: one JSON object whose fields other tools and tests rely on.
#pragma once

#include <cstdint>
#include <expected>
#include <filesystem>
#include <optional>
#include <string>

#include "kvm/engine_choice.h"
#include "replay/recorder.h"
#include "replay/sha256.h"
#include "replay/state_digest.h"
#include "verbs/recording_checkpoints.h"

namespace node_mesh {

struct RunStats {
  EngineChoice engine;
  std::uint64_t steps = 0;
  double wall_ms = 0;
  std::uint64_t guest_ns = 0;
  std::uint64_t log_bytes = 0;
  RunTotals totals;
  std::uint64_t frames = 0;  // Ethernet frames that the guest sent
  std::uint64_t console_bytes = 0;
  std::optional<Sha256> console_sha256;
  std::optional<std::uint64_t> digest;  // of the final state
  std::string end;                      // poweroff, reboot, timeout, signal, diverged, error
  std::optional<Divergence> diverged;
  std::optional<CheckpointTotals> checkpoints;
  std::optional<UserEngine::Counters> user;  // what the engine did
};

// How --stats calls an end: a guest that was stopped by a supervisor counts as signalled.
std::string stats_end_name(EndReason reason);
// An empty path: nothing is written.
std::expected<void, std::string> write_stats(const std::filesystem::path& path,
                                             const RunStats& stats);

}  // namespace node_mesh
