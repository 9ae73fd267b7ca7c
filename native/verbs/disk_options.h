// --disk FILE[,ro][,size=N], as record and run have it.
#pragma once

#include <cstdint>
#include <expected>
#include <filesystem>
#include <string>
#include <vector>

#include "replay/disk_store.h"

namespace node_mesh {

struct DiskOption {
  std::filesystem::path file;
  std::uint64_t size_bytes = 0;  // 0: the image's own
  bool read_only = false;
};

// What follows the file name may come in any order. N is in bytes, or with K, M, G or T behind it.
std::expected<DiskOption, std::string> parse_disk_option(const std::string& text);

// Opens and hashes them all. The error is a whole line.
std::expected<std::vector<NamedDisk>, std::string> open_named_disks(
    const std::vector<std::string>& options);

}  // namespace node_mesh
