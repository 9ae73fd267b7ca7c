// The guest's floating point state as the native stubs and FXSAVE see it.
#pragma once

#include <array>
#include <cstdint>

namespace node_mesh {

struct FpuState {
  // XMM0-15. Kept apart from the x87 image because stubs load single registers.
  alignas(16) std::array<std::array<std::uint8_t, 16>, 16> xmm{};
  // A 512-byte FXSAVE64 image whose x87/MMX part is authoritative; its XMM and MXCSR fields are
  // filled in only when the guest executes FXSAVE.
  alignas(16) std::array<std::uint8_t, 512> x87{};
  std::uint32_t mxcsr = 0x1f80;
  friend bool operator==(const FpuState&, const FpuState&) = default;
};

}  // namespace node_mesh
