#include "replay/preempt_codec.h"

#include <span>

#include "machine/check.h"

namespace node_mesh {
namespace {

constexpr std::uint8_t part_complete = 1;
constexpr std::size_t code_segment = 1, stack_segment = 2;
// What the x87 image holds of its own: MXCSR and the XMM registers are kept apart from it.
constexpr std::size_t x87_head_bytes = 24, x87_registers_offset = 32, x87_registers_bytes = 128;

void write_state(ByteWriter& out, const UserState& state) {
  for (const std::uint64_t value : state.gpr)
    out.varint(value);
  out.varint(state.rip);
  out.varint(state.rflags);
  for (const SegmentSnapshot& segment : state.segments) {
    out.varint(segment.selector);
    out.varint(segment.base);
    out.varint(segment.limit);
    out.varint(segment.attributes);
  }
  const std::span<const std::uint8_t> x87(state.fpu.x87);
  out.bytes(std::as_bytes(x87.first(x87_head_bytes)));
  out.bytes(std::as_bytes(x87.subspan(x87_registers_offset, x87_registers_bytes)));
  for (const auto& xmm : state.fpu.xmm)
    out.bytes(std::as_bytes(std::span(xmm)));
  out.u32(state.fpu.mxcsr);
}

void read_into(ByteReader& in, const char* field, std::span<std::uint8_t> into) {
  const auto bytes = in.bytes(field, into.size());
  for (std::size_t i = 0; i < bytes.size(); ++i)
    into[i] = std::to_integer<std::uint8_t>(bytes[i]);
}

bool is_canonical(std::uint64_t address) {
  const std::uint64_t top = address >> 47;
  return top == 0 || top == 0x1ffff;
}

// The parts of a descriptor's attributes that make it one of user mode.
bool is_user_segment(const SegmentSnapshot& segment, bool code) {
  constexpr std::uint16_t present = 0x80, privilege = 0x60, not_system = 0x10, executable = 0x08;
  constexpr std::uint16_t user = present | privilege | not_system;
  return (segment.selector & 3) == 3 && (segment.attributes & user) == user &&
         ((segment.attributes & executable) != 0) == code;
}

UserState read_state(ByteReader& in) {
  UserState state;
  for (std::uint64_t& value : state.gpr)
    value = in.varint("preempt.register", 0, UINT64_MAX);
  state.rip = in.varint("preempt.rip", 0, UINT64_MAX);
  if (!is_canonical(state.rip)) in.fail("preempt.rip", "not canonical");
  state.rflags = in.varint("preempt.rflags", 0, UINT64_MAX);
  if ((state.rflags & ~preempt_rflags_mask) != 0 || (state.rflags & 2) == 0) {
    in.fail("preempt.rflags", "holds what RFLAGS cannot");
  }
  for (SegmentSnapshot& segment : state.segments) {
    segment.selector =
        static_cast<std::uint16_t>(in.varint("preempt.segment.selector", 0, UINT16_MAX));
    segment.base = in.varint("preempt.segment.base", 0, UINT64_MAX);
    segment.limit = static_cast<std::uint32_t>(in.varint("preempt.segment.limit", 0, UINT32_MAX));
    segment.attributes =
        static_cast<std::uint16_t>(in.varint("preempt.segment.attributes", 0, UINT16_MAX));
  }
  if (!is_user_segment(state.segments[code_segment], true) ||
      !is_user_segment(state.segments[stack_segment], false)) {
    in.fail("preempt.segment", "not those of user mode");
  }
  const std::span<std::uint8_t> x87(state.fpu.x87);
  read_into(in, "preempt.x87", x87.first(x87_head_bytes));
  read_into(in, "preempt.x87", x87.subspan(x87_registers_offset, x87_registers_bytes));
  for (auto& xmm : state.fpu.xmm)
    read_into(in, "preempt.xmm", xmm);
  state.fpu.mxcsr = in.u32("preempt.mxcsr");
  if (state.fpu.mxcsr > 0xffff) in.fail("preempt.mxcsr", "has reserved bits set");
  return state;
}

}  // namespace

void write_preempt(ByteWriter& out, const PreemptEvent& event) {
  NM_CHECK(event.pages.size() <= preempt_pages_max);
  NM_CHECK(event.state.has_value() || !event.pages.empty());
  out.u8(event.state ? part_complete : 0);
  if (event.state) write_state(out, *event.state);
  out.varint(event.pages.size());
  std::uint64_t next = 0;
  for (const Preemption::Page& page : event.pages) {
    NM_CHECK(page.gfn >= next);
    out.varint(page.gfn - next);
    out.bytes(page.bytes);
    next = page.gfn + 1;
  }
}

PreemptEvent read_preempt(ByteReader& in) {
  PreemptEvent event;
  if (in.u8("preempt.part", part_complete) == part_complete) event.state = read_state(in);
  const auto count = in.varint("preempt.pages", event.state ? 0 : 1, preempt_pages_max);
  std::uint64_t next = 0;
  for (std::uint64_t i = 0; i < count && !in.failed(); ++i) {
    Preemption::Page& page = event.pages.emplace_back();
    page.gfn = next + in.varint("preempt.page", 0, gfn_max);
    if (page.gfn > gfn_max) in.fail("preempt.page", "beyond the greatest page number");
    const auto bytes = in.bytes("preempt.page.bytes", page_bytes);
    std::copy(bytes.begin(), bytes.end(), page.bytes.begin());
    next = page.gfn + 1;
  }
  return event;
}

}  // namespace node_mesh
