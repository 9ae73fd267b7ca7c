// What lies in a directory of checkpoints, for those who choose one and for whoever clears up.
#pragma once

#include <expected>
#include <filesystem>
#include <string>
#include <vector>

#include "checkpoint/manifest.h"

namespace node_mesh {

struct CheckpointFile {
  std::filesystem::path path;
  Manifest manifest;
};

struct CheckpointList {
  std::vector<CheckpointFile> checkpoints;  // by rising position
  std::vector<std::string> damaged;         // one sentence each, naming the file
};

// A directory that is not there has no checkpoints. Manifests are checked, packs are not.
std::expected<CheckpointList, std::string> list_checkpoints(const std::filesystem::path& directory);

// Removes what a writer that died left: half-written files, and packs that no manifest needs. Only
// for the directory's one writer; a damaged manifest keeps all packs, since it may need any.
void clear_up_checkpoints(const std::filesystem::path& directory, const CheckpointList& list);

}  // namespace node_mesh
