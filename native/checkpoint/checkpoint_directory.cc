#include "checkpoint/checkpoint_directory.h"

#include <algorithm>
#include <set>
#include <system_error>

namespace node_mesh {

namespace fs = std::filesystem;

std::expected<CheckpointList, std::string> list_checkpoints(const fs::path& directory) {
  CheckpointList list;
  std::error_code error;
  if (!fs::exists(directory, error)) return list;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    if (!promised_hash(entry->path(), manifest_suffix)) continue;
    auto manifest = read_manifest(entry->path());
    if (manifest) {
      list.checkpoints.push_back({entry->path(), std::move(*manifest)});
    } else {
      list.damaged.push_back(manifest.error());
    }
  }
  if (error) {
    return std::unexpected("directory \"" + directory.string() + "\": " + error.message());
  }
  std::ranges::sort(list.checkpoints, {}, [](const CheckpointFile& one) {
    return std::pair(one.manifest.chunk, one.manifest.position);
  });
  return list;
}

void clear_up_checkpoints(const fs::path& directory, const CheckpointList& list) {
  std::set<Sha256> needed;
  for (const CheckpointFile& one : list.checkpoints) {
    for (const Manifest::Pack& pack : one.manifest.packs)
      needed.insert(pack.name);
  }
  std::vector<fs::path> rest;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    const auto name = promised_hash(entry->path(), pack_suffix);
    const bool unneeded = name && list.damaged.empty() && !needed.contains(*name);
    if (unneeded || entry->path().filename().string().starts_with(unfinished_prefix)) {
      rest.push_back(entry->path());
    }
  }
  for (const fs::path& path : rest)
    fs::remove(path, error);
}

}  // namespace node_mesh
