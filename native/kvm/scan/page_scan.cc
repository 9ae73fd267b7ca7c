#include "kvm/scan/page_scan.h"

#include <algorithm>
#include <cstring>

namespace node_mesh {
namespace {

constexpr std::size_t instruction_bytes_max = 15;
// Streams begin at least so far in front of the offset that they are to vote on, to have fallen
// into step by then; so many must have come through for their vote to count.
constexpr std::size_t step_bytes = 8;
constexpr unsigned streams_min = 4;

bool is_legacy_prefix(std::uint8_t byte) {
  switch (byte) {
    case 0x26:
    case 0x2e:
    case 0x36:
    case 0x3e:
    case 0x64:
    case 0x65:
    case 0x66:
    case 0x67:
    case 0xf0:
    case 0xf2:
    case 0xf3:
      return true;
    default:
      return false;
  }
}

bool is_mandatory_prefix(std::uint8_t byte) {
  return byte == 0x66 || byte == 0xf0 || byte == 0xf2 || byte == 0xf3;
}

// What is behind the prefixes.
std::span<const std::uint8_t> without_prefixes(std::span<const std::uint8_t> bytes) {
  while (!bytes.empty() && is_legacy_prefix(bytes.front()))
    bytes = bytes.subspan(1);
  if (!bytes.empty() && (bytes.front() & 0xf0) == 0x40) bytes = bytes.subspan(1);
  return bytes;
}

// Forms that new instructions take: what is undefined today may mean something tomorrow. The long
// prefixes take no other in front of them but a segment or an address size.
bool may_be_new(std::span<const std::uint8_t> bytes) {
  while (!bytes.empty() && is_legacy_prefix(bytes.front()) && !is_mandatory_prefix(bytes.front()))
    bytes = bytes.subspan(1);
  if (bytes.empty()) return false;
  switch (bytes.front()) {
    case 0x62:
    case 0xc4:
    case 0xc5:
    case 0xd5:
      return true;
    default:
      break;
  }
  const auto opcode = without_prefixes(bytes);
  return !opcode.empty() && opcode.front() == 0x0f;
}

// The part of the streams, one in so many, that makes an offset plausible. Where instructions begin
// nearly all land; a third is asked of encodings of one byte, which is where chance finds most.
unsigned landing_divisor(Hazard hazard) {
  switch (hazard) {
    case Hazard::descriptor_checks:
    case Hazard::descriptor_tables:
    case Hazard::far_transfer:
    case Hazard::segments:
    case Hazard::unknown:
    case Hazard::vector:
      return 3;
    default:
      return 8;
  }
}

// Code that goes on behind one of these is no program's.
bool is_rare(Hazard hazard) {
  return hazard == Hazard::far_transfer || hazard == Hazard::segments ||
         hazard == Hazard::descriptor_tables || hazard == Hazard::descriptor_checks;
}

using Flow = PageScanner::Decoded::Flow;

Flow flow_of(const ZydisDecodedInstruction& instruction) {
  switch (instruction.meta.category) {
    case ZYDIS_CATEGORY_COND_BR:
      return Flow::branch;
    case ZYDIS_CATEGORY_UNCOND_BR:
      return Flow::jump;
    case ZYDIS_CATEGORY_CALL:
      return Flow::branch;
    case ZYDIS_CATEGORY_RET:
      return Flow::leaves;
    default:
      break;
  }
  switch (instruction.mnemonic) {
    case ZYDIS_MNEMONIC_UD0:
    case ZYDIS_MNEMONIC_UD1:
    case ZYDIS_MNEMONIC_UD2:
    case ZYDIS_MNEMONIC_HLT:
      return Flow::leaves;
    default:
      return Flow::next;
  }
}

// One offset, decoded.
struct Step {
  // To what follows; 0: no instruction, or none that programs go on behind.
  std::uint8_t stride = 0;
  Hazard hazard = Hazard::none;
  std::uint8_t length = 1;
  std::uint8_t distance_bytes = 0;  // of a direct branch, at the end of its encoding
};

// The page with what is around it, and its decoding from each offset.
class Sweep {
 public:
  Sweep(const ZydisDecoder& decoder, HazardSet trapped, CodePageBytes page,
        const CodeNeighbours& around)
      : decoder_(decoder), trapped_(trapped) {
    const auto before = around.before.last(std::min(around.before.size(), bytes_before_max));
    const auto after = around.after.first(std::min(around.after.size(), bytes_after_max));
    front_ = before.size();
    bytes_.insert(bytes_.end(), before.begin(), before.end());
    bytes_.insert(bytes_.end(), page.begin(), page.end());
    bytes_.insert(bytes_.end(), after.begin(), after.end());
    steps_.resize(front_ + code_page_bytes);
    for (std::size_t at = 0; at < steps_.size(); ++at) {
      steps_[at] = decode(at);
      if (steps_[at].distance_bytes != 0) note_branch(at);
    }
  }

  std::vector<Suspect> suspects() const {
    std::vector<Suspect> found;
    for (std::size_t offset = 0; offset < code_page_bytes; ++offset) {
      const Step& step = steps_[front_ + offset];
      if (step.hazard == Hazard::none) continue;
      const std::size_t length = std::min<std::size_t>(step.length, code_page_bytes - offset);
      found.push_back({static_cast<std::uint16_t>(offset), static_cast<std::uint8_t>(length),
                       step.hazard,
                       plausible(front_ + offset, step.hazard) || branched_to(front_ + offset)});
    }
    return found;
  }

 private:
  Step decode(std::size_t at) const {
    const std::size_t left = bytes_.size() - at;
    const std::span<const std::uint8_t> bytes(bytes_.data() + at,
                                              std::min(left, instruction_bytes_max));
    ZydisDecodedInstruction instruction;
    const ZyanStatus status =
        ZydisDecoderDecodeInstruction(&decoder_, nullptr, bytes.data(), bytes.size(), &instruction);
    if (ZYAN_SUCCESS(status)) {
      const Hazard hazard = hazard_of(instruction);
      const bool useless =
          is_rare(hazard) || (instruction.attributes & ZYDIS_ATTRIB_IS_PRIVILEGED) != 0;
      const auto& distance = instruction.raw.imm[0];
      const int distance_bytes = distance.is_relative ? distance.size / 8 : 0;
      return {useless ? std::uint8_t{0} : instruction.length, kept(hazard), instruction.length,
              static_cast<std::uint8_t>(distance_bytes)};
    }
    if (status == ZYDIS_STATUS_NO_MORE_DATA && left < instruction_bytes_max) {
      return {instruction_bytes_max, kept(hazard_of_cut(bytes)), instruction_bytes_max};
    }
    return {0, may_be_new(bytes) ? kept(Hazard::unknown) : Hazard::none, 1};
  }

  // Where a direct branch at `at` leads, if that is in the page.
  void note_branch(std::size_t at) {
    const std::size_t size = steps_[at].distance_bytes;
    const std::size_t end = at + steps_[at].length;
    if (size > 4 || end > bytes_.size()) return;
    std::uint32_t raw = 0;
    std::memcpy(&raw, bytes_.data() + end - size, size);
    const unsigned unused = 32 - 8 * static_cast<unsigned>(size);
    const std::int64_t distance = static_cast<std::int32_t>(raw << unused) >> unused;
    const std::int64_t target = static_cast<std::int64_t>(end) + distance;
    if (target >= 0 && target < static_cast<std::int64_t>(steps_.size())) {
      branches_.push_back({static_cast<std::uint16_t>(at), static_cast<std::uint16_t>(target)});
    }
  }

  // Does code that a program could hold jump there?
  bool branched_to(std::size_t at) const {
    return std::ranges::any_of(branches_, [&](const Branch& branch) {
      return branch.to == at && plausible(branch.from, Hazard::unknown);
    });
  }

  Hazard kept(Hazard hazard) const { return trapped_.has(hazard) ? Hazard::none : hazard; }

  // The page's end cuts it off: what could the bytes behind make of it?
  Hazard hazard_of_cut(std::span<const std::uint8_t> bytes) const {
    const auto opcode = without_prefixes(bytes);
    if (opcode.empty() || (opcode.size() < 3 && may_be_new(bytes))) return Hazard::unknown;
    std::uint8_t whole[instruction_bytes_max + 1] = {};
    std::memcpy(whole, bytes.data(), bytes.size());
    for (unsigned next = 0; next < 256; ++next) {
      whole[bytes.size()] = static_cast<std::uint8_t>(next);
      ZydisDecodedInstruction instruction;
      if (!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder_, nullptr, whole,
                                                      instruction_bytes_max, &instruction))) {
        if (may_be_new(bytes)) return Hazard::unknown;
        continue;
      }
      const Hazard hazard = hazard_of(instruction);
      if (kept(hazard) != Hazard::none) return hazard;
    }
    return Hazard::none;
  }

  bool plausible(std::size_t at, Hazard hazard) const {
    const std::size_t first = at > bytes_before_max ? at - bytes_before_max : 0;
    unsigned streams = 0, landed = 0;
    for (std::size_t start = first; start + step_bytes <= at; ++start) {
      std::size_t here = start;
      while (here < at && steps_[here].stride != 0)
        here += steps_[here].stride;
      if (here < at) continue;  // it ran into something that is no code
      ++streams;
      if (here == at) ++landed;
    }
    return streams < streams_min || landed * landing_divisor(hazard) >= streams;
  }

  const ZydisDecoder& decoder_;
  HazardSet trapped_;
  std::vector<std::uint8_t> bytes_;
  struct Branch {
    std::uint16_t from, to;
  };
  std::vector<Step> steps_;
  std::vector<Branch> branches_;
  std::size_t front_ = 0;
};

}  // namespace

PageScanner::PageScanner(HazardSet trapped) : trapped_(trapped) {
  ZydisDecoderInit(&decoder_, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
}

std::vector<Suspect> PageScanner::scan(CodePageBytes page, const CodeNeighbours& neighbours) const {
  return Sweep(decoder_, trapped_, page, neighbours).suspects();
}

PageScanner::Decoded PageScanner::decode(CodePageBytes page, std::size_t offset) const {
  const auto bytes = page.subspan(offset);
  ZydisDecodedInstruction instruction;
  ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
  if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder_, bytes.data(),
                                           std::min(bytes.size(), instruction_bytes_max),
                                           &instruction, operands))) {
    return {};
  }
  Decoded decoded;
  decoded.length = instruction.length;
  const Hazard hazard = hazard_of(instruction);
  decoded.hazard = trapped_.has(hazard) ? Hazard::none : hazard;
  decoded.flow = flow_of(instruction);
  const bool direct = instruction.operand_count_visible > 0 &&
                      operands[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE &&
                      operands[0].imm.is_relative;
  if (decoded.flow != Flow::next && direct) {
    decoded.has_target = true;
    decoded.target =
        static_cast<std::int64_t>(offset) + instruction.length + operands[0].imm.value.s;
  }
  return decoded;
}

}  // namespace node_mesh
