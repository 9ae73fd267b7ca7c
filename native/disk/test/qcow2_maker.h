// Writes small qcow2 images of every kind that the reader knows, for tests.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "replay/byte_codec.h"

namespace node_mesh::test {

enum class ClusterKind : std::uint8_t { unallocated, zero, data, compressed };

struct Qcow2Plan {
  std::uint32_t version = 3;
  std::uint32_t cluster_bits = 12;
  bool zstd = false;
  std::string backing_file;
  std::string backing_format = "raw";
  std::uint64_t incompatible = 0;  // more feature bits
  std::uint32_t encryption = 0;
  std::string feature_name;  // of the lowest bit in `incompatible`
  std::function<ClusterKind(std::uint64_t cluster)> kind_of;
};

// A whole file that holds `content` where its clusters are data or compressed.
Bytes make_qcow2(const Qcow2Plan& plan, const Bytes& content);

}  // namespace node_mesh::test
