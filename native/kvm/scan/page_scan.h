// Looks through one page of code for instructions that must not run on the host's CPU (hazard.h).
// An instruction may begin at any byte: each offset is decoded. It never looks at anything but the
// bytes it is given, and keeps nothing.
//
// A hazard's bytes are mostly the inside of other instructions, or data. Whether an offset is
// *plausible* as the start of an instruction is judged by decoding from the offsets before it: x86
// code falls into step within a few instructions wherever decoding begins, so the true stream is
// among those that remain. What (almost) no stream reaches, and no plausible direct branch in the
// page leads to, is not plausible. At doubt it is.
//
// Limit: that is evidence, not proof. A program that jumps into the middle of an instruction that
// was judged to be whole, by a computed jump, runs the hazard natively where the host does not trap
// it (see HazardSet; VMX and SVM trap most). Its copies then differ, which the digest notices.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kvm/scan/hazard.h"

namespace node_mesh {

inline constexpr std::size_t code_page_bytes = 4096;
// How many bytes of the neighbours are looked at; more may be given.
inline constexpr std::size_t bytes_before_max = 64, bytes_after_max = 15;

using CodePageBytes = std::span<const std::uint8_t, code_page_bytes>;

// What is mapped around the page in the address space that runs it; empty: unknown or nothing.
// Without `after` an instruction that may be a hazard and is cut off by the page's end counts as
// one, so a page may be refused needlessly. With it, the verdict holds for that neighbour only.
struct CodeNeighbours {
  std::span<const std::uint8_t> before = {};  // its last byte lies in front of the page
  std::span<const std::uint8_t> after = {};
};

struct Suspect {
  std::uint16_t offset = 0;  // where the instruction would begin
  std::uint8_t length = 1;   // of its bytes within the page
  Hazard hazard = Hazard::none;
  bool plausible = true;
  friend bool operator==(const Suspect&, const Suspect&) = default;
};

class PageScanner {
 public:
  // `trapped`: hazards that need no scan on this host.
  explicit PageScanner(HazardSet trapped);

  // Each offset at which decoding gives a hazard, prefixes in front of it included; by rising
  // offset.
  std::vector<Suspect> scan(CodePageBytes page, const CodeNeighbours& neighbours = {}) const;

  // One instruction. Length 0: it is none, or it is cut off by the page's end.
  struct Decoded {
    std::uint8_t length = 0;
    Hazard hazard = Hazard::none;
    // Where control goes: on, on or elsewhere (a call comes back), elsewhere, nowhere known.
    enum class Flow : std::uint8_t { next, branch, jump, leaves } flow = Flow::next;
    bool has_target = false;  // of a direct branch
    std::int64_t target = 0;  // from the page's start; may lie outside
  };
  Decoded decode(CodePageBytes page, std::size_t offset) const;

 private:
  HazardSet trapped_;
  ZydisDecoder decoder_;
};

}  // namespace node_mesh
