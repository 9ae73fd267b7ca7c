#include "verbs/guest_images.h"

#include <ctime>

#include "replay/entropy_source.h"
#include "replay/file.h"

namespace node_mesh {
namespace {

void fill_random(std::span<std::uint8_t> into) { HostEntropy().fill(std::as_writable_bytes(into)); }

}  // namespace

std::expected<GuestImages, std::string> read_guest_images(const GuestOptions& options) {
  const auto cannot = [](const char* what, const std::filesystem::path& path,
                         const std::string& why, const char* remedy) {
    return std::unexpected("Cannot read " + std::string(what) + " \"" + path.string() +
                           "\": " + why + "; " + remedy);
  };
  GuestImages images;
  auto kernel = read_file(options.kernel, kernel_bytes_max);
  if (!kernel) {
    return cannot("kernel", options.kernel, kernel.error(), "name a Linux bzImage with --kernel");
  }
  images.kernel = std::move(*kernel);
  if (options.initrd.empty()) return images;
  auto initrd = read_file(options.initrd, initrd_bytes_max);
  if (!initrd) {
    return cannot("initrd", options.initrd, initrd.error(), "name an initramfs with --initrd");
  }
  if (initrd->empty()) {
    return cannot("initrd", options.initrd, "it is empty", "name an initramfs with --initrd");
  }
  images.initrd = std::move(*initrd);
  return images;
}

MachineConfig new_config(const GuestOptions& options) {
  MachineConfig config;
  config.memory_bytes = options.memory_mib << 20;
  config.cmdline = options.cmdline;
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  config.start_realtime_ns = static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u +
                             static_cast<std::uint64_t>(now.tv_nsec);
  fill_random(config.rng_seed);
  config.rng = options.rng;
  if (options.network) {
    NetworkConfig& network = config.network.emplace();
    network.mtu = options.mtu;
    fill_random(network.mac);
    // An address of one card, given out by nobody.
    network.mac[0] = static_cast<std::uint8_t>((network.mac[0] & ~1u) | 2u);
  }
  config.initial_ns_per_step = 3ull << 31;  // about what the software CPU does
  return config;
}

}  // namespace node_mesh
