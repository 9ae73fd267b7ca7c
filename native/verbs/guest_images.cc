#include "verbs/guest_images.h"

#include <sys/random.h>

#include <ctime>

#include "machine/check.h"
#include "replay/file.h"

namespace node_mesh {

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
  const ssize_t got = ::getrandom(config.rng_seed.data(), config.rng_seed.size(), 0);
  NM_CHECK(got == static_cast<ssize_t>(config.rng_seed.size()));
  config.initial_ns_per_step = 3ull << 31;  // about what the software CPU does
  return config;
}

}  // namespace node_mesh
