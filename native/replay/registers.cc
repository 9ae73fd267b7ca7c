#include "replay/registers.h"

#include <xxhash.h>

#include <span>

namespace node_mesh {
namespace {

constexpr std::array<std::string_view, register_count> names = {
    "rax",
    "rcx",
    "rdx",
    "rbx",
    "rsp",
    "rbp",
    "rsi",
    "rdi",
    "r8",
    "r9",
    "r10",
    "r11",
    "r12",
    "r13",
    "r14",
    "r15",
    "rip",
    "rflags",
    "es",
    "es.base",
    "es.limit",
    "es.attributes",
    "cs",
    "cs.base",
    "cs.limit",
    "cs.attributes",
    "ss",
    "ss.base",
    "ss.limit",
    "ss.attributes",
    "ds",
    "ds.base",
    "ds.limit",
    "ds.attributes",
    "fs",
    "fs.base",
    "fs.limit",
    "fs.attributes",
    "gs",
    "gs.base",
    "gs.limit",
    "gs.attributes",
    "tr",
    "tr.base",
    "tr.limit",
    "tr.attributes",
    "ldtr",
    "ldtr.base",
    "ldtr.limit",
    "ldtr.attributes",
    "gdtr.base",
    "gdtr.limit",
    "idtr.base",
    "idtr.limit",
    "cr0",
    "cr2",
    "cr3",
    "cr4",
    "cr8",
    "dr0",
    "dr1",
    "dr2",
    "dr3",
    "dr4",
    "dr5",
    "dr6",
    "dr7",
    "efer",
    "star",
    "lstar",
    "cstar",
    "sfmask",
    "kernel_gs_base",
    "tsc_offset",
    "tsc_aux",
    "pat",
    "misc_enable",
    "sysenter_cs",
    "sysenter_esp",
    "sysenter_eip",
    "mxcsr",
    "fcw",
    "fsw",
    "ftw",
    "x87.hash",
    "xmm0.hash",
    "xmm1.hash",
    "xmm2.hash",
    "xmm3.hash",
    "xmm4.hash",
    "xmm5.hash",
    "xmm6.hash",
    "xmm7.hash",
    "xmm8.hash",
    "xmm9.hash",
    "xmm10.hash",
    "xmm11.hash",
    "xmm12.hash",
    "xmm13.hash",
    "xmm14.hash",
    "xmm15.hash",
    "halted",
    "interrupt_shadow",
};
static_assert(!names.back().empty(), "one name for each register");

// 0 for a register of zeros, else 32 bits of its hash: short in the log and enough to name it.
std::uint64_t short_hash(std::span<const std::uint8_t> bytes) {
  for (const std::uint8_t byte : bytes) {
    if (byte != 0) return XXH3_64bits(bytes.data(), bytes.size()) & 0xffffffff;
  }
  return 0;
}

class Filler {
 public:
  explicit Filler(RegisterValues& values) : values_(values) {}
  void put(std::uint64_t value) { values_[index_++] = value; }
  void put(const SegmentSnapshot& segment) {
    put(segment.selector);
    put(segment.base);
    put(segment.limit);
    put(segment.attributes);
  }
  void put(const TableSnapshot& table) {
    put(table.base);
    put(table.limit);
  }

 private:
  RegisterValues& values_;
  std::size_t index_ = 0;
};

void put_fpu(Filler& filler, const FpuState& fpu) {
  const std::span<const std::uint8_t> image(fpu.x87);
  filler.put(fpu.mxcsr);
  filler.put(static_cast<std::uint64_t>(image[0] | image[1] << 8));
  filler.put(static_cast<std::uint64_t>(image[2] | image[3] << 8));
  filler.put(image[4]);
  // Bytes 24-31 (MXCSR) and from 160 on (XMM) are no part of the x87 state.
  std::array<std::uint8_t, 16 + 128> x87{};
  for (std::size_t i = 0; i < 16; ++i)
    x87[i] = image[8 + i];
  for (std::size_t i = 0; i < 128; ++i)
    x87[16 + i] = image[32 + i];
  filler.put(short_hash(x87));
  for (const auto& xmm : fpu.xmm)
    filler.put(short_hash(xmm));
}

}  // namespace

RegisterValues register_values(const CpuSnapshot& s) {
  RegisterValues values{};
  Filler filler(values);
  for (const std::uint64_t value : s.gpr)
    filler.put(value);
  filler.put(s.rip);
  filler.put(s.rflags);
  for (const auto& segment : s.segments)
    filler.put(segment);
  filler.put(s.tr);
  filler.put(s.ldtr);
  filler.put(s.gdtr);
  filler.put(s.idtr);
  for (const std::uint64_t value : {s.cr0, s.cr2, s.cr3, s.cr4, s.cr8})
    filler.put(value);
  for (const std::uint64_t value : s.dr)
    filler.put(value);
  for (const std::uint64_t value :
       {s.efer, s.star, s.lstar, s.cstar, s.sfmask, s.kernel_gs_base, s.tsc_offset, s.tsc_aux,
        s.pat, s.misc_enable, s.sysenter_cs, s.sysenter_esp, s.sysenter_eip}) {
    filler.put(value);
  }
  put_fpu(filler, s.fpu);
  filler.put(s.halted ? 1u : 0u);
  filler.put(s.interrupt_shadow);
  return values;
}

std::string_view register_name(std::size_t index) { return names.at(index); }

}  // namespace node_mesh
