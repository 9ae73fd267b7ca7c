#include "cpu/segmentation.h"

#include "cpu/access.h"

namespace node_mesh {

bool read_descriptor(Core* c, const Insn* i, u16 selector, Descriptor& into) {
  const bool local = selector & 4;
  if (local && !(c->ldtr.attributes & attribute_present)) return false;
  const u64 base = local ? c->ldtr_base : c->gdt_base;
  const u64 limit = local ? c->ldtr.limit : c->gdt_limit;
  const u64 offset = selector & 0xfff8u;
  if (offset + 7 > limit) return false;
  system_read(c, i, base + offset, &into.low, sizeof into.low);
  into.high = 0;
  if (!into.is_segment() && offset + 15 <= limit) {
    system_read(c, i, base + offset + 8, &into.high, sizeof into.high);
  }
  return true;
}

void mark_descriptor(Core* c, const Insn* i, u16 selector, Descriptor& descriptor, unsigned bit) {
  if ((descriptor.low >> bit) & 1) return;
  descriptor.low |= u64{1} << bit;
  const u64 base = selector & 4 ? c->ldtr_base : c->gdt_base;
  system_write(c, i, base + (selector & 0xfff8u), &descriptor.low, sizeof descriptor.low);
}

void load_segment(Core* c, unsigned index, u16 selector, const Descriptor& descriptor) {
  c->segments[index] = {selector, descriptor.attributes(), descriptor.limit()};
  c->seg_base[index] = descriptor.base();
  update_code_mode(c);
}

void load_data_segment(Core* c, const Insn* i, unsigned index, u16 selector) {
  const u32 error = selector & 0xfffcu;
  const unsigned rpl = selector & 3;
  if (error == 0) {
    const bool null_stack_ok = c->code64() && c->cpl != 3 && rpl == c->cpl;
    if (index == seg_ss && !null_stack_ok) raise_error(c, i, vector::gp, 0);
    c->segments[index] = {selector, 0, 0};
    c->seg_base[index] = 0;
    update_code_mode(c);
    return;
  }
  Descriptor d;
  if (!read_descriptor(c, i, selector, d)) raise_error(c, i, vector::gp, error);
  if (index == seg_ss) {
    if (rpl != c->cpl || !d.writable() || d.dpl() != c->cpl) raise_error(c, i, vector::gp, error);
    if (!d.present()) raise_error(c, i, vector::ss, error);
  } else {
    if (!d.is_segment() || !d.readable()) raise_error(c, i, vector::gp, error);
    if (!d.conforming() && (rpl > d.dpl() || c->cpl > d.dpl())) {
      raise_error(c, i, vector::gp, error);
    }
    if (!d.present()) raise_error(c, i, vector::np, error);
  }
  mark_descriptor(c, i, selector, d, 40);
  load_segment(c, index, selector, d);
}

void load_code_segment(Core* c, u16 selector, const Descriptor& descriptor, unsigned new_cpl) {
  c->segments[seg_cs] = {selector, static_cast<u16>(descriptor.attributes() | attribute_accessed),
                         descriptor.limit()};
  c->seg_base[seg_cs] = descriptor.base();
  c->cpl = static_cast<u8>(new_cpl);
  update_code_mode(c);
}

void load_null_stack(Core* c, u16 rpl) {
  c->segments[seg_ss] = {rpl, 0, 0};
  c->seg_base[seg_ss] = 0;
}

void load_flat_code(Core* c, u16 selector, unsigned cpl, bool code64) {
  const u16 size = code64 ? attribute_long : attribute_big;
  c->segments[seg_cs] = {selector, static_cast<u16>(0x9b | (cpl << 5) | size | attribute_granular),
                         0xffffffff};
  c->seg_base[seg_cs] = 0;
  c->cpl = static_cast<u8>(cpl);
  update_code_mode(c);
}

void load_flat_stack(Core* c, u16 selector, unsigned cpl) {
  c->segments[seg_ss] = {selector,
                         static_cast<u16>(0x93 | (cpl << 5) | attribute_big | attribute_granular),
                         0xffffffff};
  c->seg_base[seg_ss] = 0;
  update_code_mode(c);
}

void drop_inner_data_segments(Core* c) {
  for (const unsigned index : {seg_es, seg_ds, seg_fs, seg_gs}) {
    const Segment& segment = c->segments[index];
    const bool conforming_code = (segment.attributes & 0x1c) == 0x1c;
    const unsigned dpl = (segment.attributes >> 5) & 3;
    if (!(segment.attributes & attribute_present) || conforming_code || dpl >= c->cpl) continue;
    c->segments[index] = {0, 0, 0};
    c->seg_base[index] = 0;
  }
}

void update_code_mode(Core* c) {
  const u16 code = c->segments[seg_cs].attributes;
  if (code & attribute_long) {
    c->code_mode = CodeMode::code64;
    c->code_base = 0;
    return;
  }
  c->code_mode = code & attribute_big ? CodeMode::code32 : CodeMode::code16;
  c->code_base = c->seg_base[seg_cs];
  c->stack_mask = c->segments[seg_ss].attributes & attribute_big ? 0xffffffff : 0xffff;
}

}  // namespace node_mesh
