#include "machine/machine_config.h"

#include "machine/format_text.h"

namespace node_mesh {

std::expected<void, std::string> check_machine_config(const MachineConfig& config) {
  constexpr std::uint64_t mib = 1 << 20;
  const auto in_mib = [](std::uint64_t bytes) {
    return static_cast<unsigned long long>(bytes / mib);
  };
  if (config.cpu_model != "mesh-v1") {
    return std::unexpected(
        format_text("Cannot create machine: CPU model \"%.40s\" is not known; "
                    "this program has \"mesh-v1\"",
                    config.cpu_model.c_str()));
  }
  if (config.memory_bytes < memory_bytes_min) {
    return std::unexpected(
        format_text("Cannot create machine: %llu MiB of memory are too few; "
                    "give at least %llu with --mem",
                    in_mib(config.memory_bytes), in_mib(memory_bytes_min)));
  }
  if (config.memory_bytes > memory_bytes_max) {
    return std::unexpected(
        format_text("Cannot create machine: %llu MiB of memory are too many; "
                    "give at most %llu with --mem",
                    in_mib(config.memory_bytes), in_mib(memory_bytes_max)));
  }
  if (config.memory_bytes % mib != 0) {
    return std::unexpected(
        format_text("Cannot create machine: a memory size of %llu bytes is not "
                    "a whole number of MiB",
                    static_cast<unsigned long long>(config.memory_bytes)));
  }
  if (config.cmdline.size() > cmdline_bytes_max) {
    return std::unexpected(
        format_text("Cannot create machine: the kernel command line has %zu "
                    "bytes; at most %zu are possible",
                    config.cmdline.size(), cmdline_bytes_max));
  }
  if (config.cmdline.find('\0') != std::string::npos) {
    return std::unexpected("Cannot create machine: the kernel command line contains a NUL byte");
  }
  if (config.disks.size() > machine_disks_max) {
    return std::unexpected(
        format_text("Cannot create machine: %zu disks are too many; it has "
                    "room for %zu",
                    config.disks.size(), machine_disks_max));
  }
  for (const DiskConfig& disk : config.disks) {
    if (disk.size_bytes != 0 && disk.size_bytes % disk_sector_bytes == 0 &&
        disk.size_bytes <= machine_disk_bytes_max) {
      continue;
    }
    return std::unexpected(
        format_text("Cannot create machine: a disk of %llu bytes is not 1 "
                    "sector to 4 TiB in whole sectors of 512 bytes",
                    static_cast<unsigned long long>(disk.size_bytes)));
  }
  if (config.network) {
    const auto& [mac, mtu] = *config.network;
    if ((mac[0] & 1u) != 0 || mac == std::array<std::uint8_t, 6>{}) {
      return std::unexpected(
          "Cannot create machine: the network card's address is a multicast address or zero");
    }
    if (mtu < network_mtu_min || mtu > network_mtu_max) {
      return std::unexpected(format_text("Cannot create machine: an MTU of %u is not within %u..%u",
                                         mtu, network_mtu_min, network_mtu_max));
    }
  }
  return {};
}

}  // namespace node_mesh
