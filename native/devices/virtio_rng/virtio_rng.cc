#include "devices/virtio_rng/virtio_rng.h"

#include <algorithm>

namespace node_mesh {

void VirtioRng::notified(unsigned, std::uint64_t) {
  if (wanted_bytes_ == 0) look();
}

// The request stays in the ring until its bytes are there, so it is nowhere else to be saved.
void VirtioRng::look() {
  VirtQueue& queue = port().queue(0);
  while (queue.take(chain_)) {
    wanted_bytes_ = static_cast<std::uint32_t>(
        std::min<std::uint64_t>(chain_.writable_bytes(), entropy_bytes_max));
    if (wanted_bytes_ != 0) {
      queue.put_back(1);
      return;
    }
    queue.put_used(chain_, 0);
  }
}

void VirtioRng::input(std::span<const std::byte> bytes) {
  if (wanted_bytes_ == 0) return;
  wanted_bytes_ = 0;
  if (!port().driver_ready()) return;
  VirtQueue& queue = port().queue(0);
  if (queue.take(chain_)) {
    const auto some = bytes.first(std::min<std::size_t>(bytes.size(), entropy_bytes_max));
    queue.put_used(chain_, static_cast<std::uint32_t>(chain_.write(0, some)));
    look();
  }
  port().publish();
}

bool VirtioRng::load(StateReader& in) {
  wanted_bytes_ = in.u32();
  in.require(wanted_bytes_ <= entropy_bytes_max);
  return in.ok();
}

}  // namespace node_mesh
