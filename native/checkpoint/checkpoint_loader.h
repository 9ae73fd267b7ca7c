// Builds a machine from a checkpoint. Everything that is read is checked against the hash that
// names it, and in the end memory as a whole against the sum that the manifest has; nothing runs
// before all of that is done.
#pragma once

#include <expected>
#include <filesystem>
#include <memory>
#include <string>

#include "checkpoint/manifest.h"
#include "machine/machine.h"
#include "replay/state_digest.h"

namespace node_mesh {

struct RestoredMachine {
  Manifest manifest;  // as it was read
  std::unique_ptr<Machine> machine;
  StateDigest digest;
};

// `file` is DIRECTORY/<sha256>.checkpoint; its packs lie beside it. Errors are whole sentences that
// name what is wrong: "checkpoint "X": ..." or "pack "X": ...".
std::expected<RestoredMachine, std::string> restore_checkpoint(const std::filesystem::path& file,
                                                               ConsoleSink& console);

}  // namespace node_mesh
