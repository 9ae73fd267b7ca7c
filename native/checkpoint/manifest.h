// The manifest of a checkpoint as it is in memory: everything but the pages themselves.
#pragma once

#include <expected>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint_format.h"
#include "machine/machine_config.h"
#include "machine/machine_state.h"
#include "replay/byte_codec.h"
#include "replay/input_sources.h"
#include "replay/sha256.h"

namespace node_mesh {

struct Manifest {
  struct Pack {
    Sha256 name{};
    std::uint64_t bytes = 0;
    std::uint32_t pages = 0;
  };
  struct Run {
    std::uint64_t gfn = 0;
    std::uint64_t count = 0;
    std::uint32_t pack = 0;
    std::uint32_t index = 0;
  };
  struct Stale {
    std::uint64_t gfn = 0;
    std::uint64_t hash = 0;
  };

  MachineConfig config;
  std::uint64_t chunk = 0;
  Position position;
  std::uint64_t guest_ns = 0;
  std::uint64_t console_bytes = 0;
  MachineState state;
  InputSources inputs;
  std::uint64_t memory_sum = 0;
  std::vector<Stale> stale;
  std::vector<Pack> packs;
  std::vector<Run> runs;

  // How fast virtual time goes, from the clock's state.
  std::uint64_t ns_per_step() const;
};

// All of the map but `packs`, `runs` and `stale`, as the entries that the child puts first.
struct ManifestHead {
  Bytes entries;
  unsigned count = 0;
};
ManifestHead encode_manifest_head(const Manifest& manifest);

// The error says which field is wrong.
std::expected<Manifest, std::string> decode_manifest(std::span<const std::byte> bytes);

// A manifest by its file, checked against its name. Errors are sentences that name the file.
std::expected<Manifest, std::string> read_manifest(const std::filesystem::path& file);

// The hash that a file's name promises; nothing when it is no such name.
std::optional<Sha256> promised_hash(const std::filesystem::path& file, std::string_view suffix);
std::filesystem::path pack_path(const std::filesystem::path& directory, const Sha256& name);
std::filesystem::path manifest_path(const std::filesystem::path& directory, const Sha256& name);

}  // namespace node_mesh
