// The kernel and initrd that a user named, read whole, and the machine configuration around them.
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <future>
#include <string>
#include <vector>

#include "machine/machine_config.h"
#include "replay/byte_codec.h"
#include "replay/sha256.h"

namespace node_mesh {

struct GuestOptions {
  std::filesystem::path kernel;
  std::filesystem::path initrd;  // empty: none
  std::string cmdline;
  std::uint64_t memory_mib = 256;
  bool rng = false;
  bool network = false;
  std::uint16_t mtu = 1500;
  std::vector<std::string> disks;  // as parse_disk_option() reads them
};

inline constexpr std::uint64_t kernel_bytes_max = 512ull << 20;
inline constexpr std::uint64_t initrd_bytes_max = 3ull << 30;

struct GuestImages {
  Bytes kernel;
  Bytes initrd;
};

// The error is a whole line.
std::expected<GuestImages, std::string> read_guest_images(const GuestOptions& options);
// A new machine of its own: now as its start, fresh random bytes. Hashes of images are left open.
MachineConfig new_config(const GuestOptions& options);

}  // namespace node_mesh
