#include "devices/reset/reset.h"

namespace node_mesh {
namespace {

constexpr std::uint8_t pulse_reset_command = 0xfe;
constexpr std::uint8_t cpu_reset_bit = 0x04;

}  // namespace

std::uint32_t Reset::read(std::uint16_t port, unsigned, std::uint64_t) {
  return port == reset_port ? control_ : 0xffu;
}

void Reset::write(std::uint16_t port, unsigned, std::uint32_t value, std::uint64_t) {
  if (port == keyboard_port) {
    if (value == pulse_reset_command) power_.reset();
    return;
  }
  const bool rising = (value & cpu_reset_bit) != 0 && (control_ & cpu_reset_bit) == 0;
  control_ = value & 0x0e;
  if (rising) power_.reset();
}

bool Reset::load(StateReader& in) {
  control_ = in.u8();
  return in.ok();
}

}  // namespace node_mesh
