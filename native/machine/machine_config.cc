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
  return {};
}

}  // namespace node_mesh
