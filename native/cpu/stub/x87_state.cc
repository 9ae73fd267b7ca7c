#include "cpu/stub/x87_state.h"

#include <cstring>

#include "cpu/stub/stub.h"

namespace node_mesh {

thread_local FpuState* x87_resident = nullptr;

namespace {

constexpr std::uint16_t control_bits = 0x1f3f;
constexpr std::uint16_t control_fixed = 0x0040;
constexpr std::uint16_t control_initial = 0x037f;
constexpr std::uint32_t host_mxcsr = 0x1f80;

struct alignas(16) HostImage {
  X87Image x87;
  std::array<std::uint8_t, 512 - sizeof(X87Image)> rest;
};
static_assert(sizeof(HostImage) == 512);

void make_canonical(X87Image& image) {
  image.control = static_cast<std::uint16_t>((image.control & control_bits) | control_fixed);
  const unsigned status = image.status & ~(x87_error_summary | x87_busy);
  image.status = static_cast<std::uint16_t>(
      image.exception_pending() ? status | x87_error_summary | x87_busy : status);
  image.reserved = 0;
  image.opcode = 0;
  image.instruction_pointer = 0;
  image.data_pointer = 0;
  image.mxcsr = 0;
  image.mxcsr_mask = 0;
  for (X87Register& reg : image.st)
    reg.reserved = {};
}

X87Image stored_image(const FpuState& fpu) {
  X87Image image;
  std::memcpy(&image, fpu.x87.data(), sizeof image);
  return image;
}

void load_host(const X87Image& image) {
  HostImage host{};
  host.x87 = image;
  host.x87.mxcsr = host_mxcsr;
  asm volatile("fxrstor64 %0"
               :
               : "m"(host)
               : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                 "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}

X87Image save_host() {
  HostImage host;
  asm volatile("fxsave64 %0\n\tfninit" : "=m"(host));
  make_canonical(host.x87);
  return host.x87;
}

}  // namespace

void x87_set_image(FpuState& fpu, X87Image image) {
  if (x87_resident == &fpu) {
    asm volatile("fninit");
    x87_resident = nullptr;
  }
  make_canonical(image);
  std::memcpy(fpu.x87.data(), &image, sizeof image);
}

X87Image x87_image(FpuState& fpu) {
  x87_flush(fpu);
  return stored_image(fpu);
}

void x87_load(FpuState& fpu) {
  if (x87_resident == &fpu) return;
  if (x87_resident != nullptr) x87_flush(*x87_resident);
  load_host(stored_image(fpu));
  x87_resident = &fpu;
}

void x87_flush(FpuState& fpu) {
  if (x87_resident != &fpu) return;
  const X87Image image = save_host();
  x87_resident = nullptr;
  std::memcpy(fpu.x87.data(), &image, sizeof image);
}

bool x87_exception_pending(const FpuState& fpu) {
  // What is resident masks all exceptions.
  return x87_resident != &fpu && stored_image(fpu).exception_pending();
}

void x87_make_canonical(FpuState& fpu) {
  x87_flush(fpu);
  x87_set_image(fpu, stored_image(fpu));
  std::memset(fpu.x87.data() + sizeof(X87Image), 0, fpu.x87.size() - sizeof(X87Image));
}

void x87_move_top(X87Image& image, unsigned top) {
  const unsigned shift = (top - image.top()) & 7u;
  const std::array<X87Register, 8> old = image.st;
  for (unsigned i = 0; i < 8; ++i)
    image.st[i] = old[(i + shift) & 7u];
  image.set_top(top);
}

void x87_push(X87Image& image, const X87Register& value) {
  x87_move_top(image, image.top() - 1);
  image.st[0] = value;
  image.valid = static_cast<std::uint8_t>(image.valid | 1u << image.top());
}

void x87_pop(X87Image& image) {
  image.valid = static_cast<std::uint8_t>(image.valid & ~(1u << image.top()));
  x87_move_top(image, image.top() + 1);
}

void x87_initialise(X87Image& image) {
  x87_move_top(image, 0);
  image.control = control_initial;
  image.status = 0;
  image.valid = 0;
}

void x87_power_on(FpuState& fpu) {
  X87Image image{};
  x87_initialise(image);
  x87_set_image(fpu, image);
  std::memset(fpu.x87.data() + sizeof(X87Image), 0, fpu.x87.size() - sizeof(X87Image));
}

void x87_run_unmasked(X87Image& image, void (*run)(void*), void* context) {
  if (x87_resident != nullptr) x87_flush(*x87_resident);
  load_host(image);
  run(context);
  image = save_host();
}

}  // namespace node_mesh
