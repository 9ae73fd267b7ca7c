// Which instructions user code must not run on the host's CPU, because there they do something else
// than in the software CPU: they tell what the host is (CPUID, RDTSC, SGDT), what two CPUs answer
// differently (RCPPS, FNSTENV), or exist although the guest's CPU model lacks them (AVX, BMI).
// Those that always trap in user mode are no hazard: a trap leads into the software CPU, which
// decides.
//
// Whether an instruction is harmless is an allow-list by instruction set, so what a newer decoder
// may learn to know is a hazard until somebody looked at it.
//
// Known differences that are not found here, since no single instruction shows them: arithmetic
// flags that the architecture leaves undefined (see cpu/canonical_flags.h for what is done at
// traps) and x87 condition codes that it leaves undefined. Code that computes with them is no
// program that means something, but its copies may diverge, which the digest notices.
#pragma once

#include <Zydis/Zydis.h>

#include <cstdint>
#include <initializer_list>
#include <string_view>

namespace node_mesh {

enum class Hazard : std::uint8_t {
  none,
  time_stamp,         // RDTSC RDTSCP RDPRU RDPMC
  cpuid,              // CPUID
  entropy,            // RDRAND RDSEED
  processor_id,       // RDPID
  descriptor_tables,  // SGDT SIDT SLDT STR SMSW
  descriptor_checks,  // LAR LSL VERR VERW: they look into the vCPU's own tables
  segments,           // selectors read or loaded
  far_transfer,       // far JMP, CALL and RET, IRET
  extended_state,     // XGETBV, XSAVE and its kind
  vector,             // whatever needs AVX or AVX-512 state to be switched on
  segment_bases,      // RDFSBASE and its kind
  protection_keys,    // RDPKRU WRPKRU
  hypercall,          // VMCALL VMMCALL VMFUNC
  fpu_image,          // FNSTENV FNSAVE FXSAVE FXRSTOR: instruction pointers, reserved fields
  mxcsr,              // LDMXCSR: some CPUs allow bits that others refuse
  estimate,           // RCPPS RSQRTPS DPPS and x87 transcendentals: results differ by vendor
  vendor_encoding,    // one encoding, two meanings: branches with 66, 16-bit SHLD, CVTPI2PS
  missing,            // the CPU model does not have it
  unknown,            // no instruction that the decoder knows, of a form that new ones take
  count
};

std::string_view hazard_name(Hazard hazard);

// The hazards that user mode of this host's vCPU cannot run into: it traps there by itself.
class HazardSet {
 public:
  constexpr HazardSet() = default;
  constexpr HazardSet(std::initializer_list<Hazard> hazards) {
    for (const Hazard hazard : hazards)
      add(hazard);
  }
  constexpr void add(Hazard hazard) { bits_ |= 1u << static_cast<unsigned>(hazard); }
  constexpr bool has(Hazard hazard) const {
    return ((bits_ >> static_cast<unsigned>(hazard)) & 1u) != 0;
  }

 private:
  std::uint32_t bits_ = 0;
};

// Of an instruction decoded in 64-bit mode with all of the decoder's modes on.
Hazard hazard_of(const ZydisDecodedInstruction& instruction);

}  // namespace node_mesh
