// Where a replay begins: at power on with the images of its log, or at one of its checkpoints.
#pragma once

#include <expected>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "machine/machine.h"
#include "replay/log_file.h"
#include "replay/replayer.h"

namespace node_mesh {

// STEPS[:USER_STEPS]
std::optional<Position> parse_position(const std::string& text);
std::string text_of(Position position);

struct ReplayStart {
  std::unique_ptr<Machine> machine;
  StateDigest digest;
  Replayer::Start from;          // the first chunk, and what came before it
  std::optional<Position> mute;  // what comes before is only on the way there
};

// `from`: empty, a position, or a checkpoint's file. The error is a whole line's reason.
std::expected<ReplayStart, std::string> start_replay(const std::filesystem::path& log,
                                                     const LogReader& reader,
                                                     const std::string& from, ConsoleSink& console);

}  // namespace node_mesh
