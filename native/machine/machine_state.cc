#include "machine/machine_state.h"

#include "devices/state.h"

namespace node_mesh {
namespace {

// One list of the fields serves both directions, so that they cannot differ.
class Saver {
 public:
  void value(std::uint64_t& field) { out_.u64(field); }
  void value(std::uint32_t& field) { out_.u32(field); }
  void value(std::uint16_t& field) { out_.u16(field); }
  void value(std::uint8_t& field) { out_.u8(field); }
  void value(bool& field) { out_.flag(field); }
  void bytes(std::span<std::uint8_t> field) { out_.bytes(std::as_bytes(field)); }
  std::vector<std::byte> take() { return out_.take(); }

 private:
  StateWriter out_;
};

class Loader {
 public:
  explicit Loader(std::span<const std::byte> from) : in_(from) {}
  void value(std::uint64_t& field) { field = in_.u64(); }
  void value(std::uint32_t& field) { field = in_.u32(); }
  void value(std::uint16_t& field) { field = in_.u16(); }
  void value(std::uint8_t& field) { field = in_.u8(); }
  void value(bool& field) { field = in_.flag(); }
  void bytes(std::span<std::uint8_t> field) {
    const auto from = in_.bytes(field.size());
    for (std::size_t i = 0; i < from.size(); ++i)
      field[i] = std::to_integer<std::uint8_t>(from[i]);
  }
  bool whole() const { return in_.ok() && in_.at_end(); }

 private:
  StateReader in_;
};

template <class Visitor>
void visit_segment(Visitor& visit, SegmentSnapshot& segment) {
  visit.value(segment.selector);
  visit.value(segment.base);
  visit.value(segment.limit);
  visit.value(segment.attributes);
}

template <class Visitor>
void visit_cpu(Visitor& visit, CpuSnapshot& cpu) {
  for (auto& gpr : cpu.gpr)
    visit.value(gpr);
  visit.value(cpu.rip);
  visit.value(cpu.rflags);
  for (SegmentSnapshot& segment : cpu.segments)
    visit_segment(visit, segment);
  visit_segment(visit, cpu.tr);
  visit_segment(visit, cpu.ldtr);
  for (TableSnapshot* table : {&cpu.gdtr, &cpu.idtr}) {
    visit.value(table->base);
    visit.value(table->limit);
  }
  for (auto* field :
       {&cpu.cr0, &cpu.cr2, &cpu.cr3, &cpu.cr4, &cpu.cr8, &cpu.efer, &cpu.star, &cpu.lstar,
        &cpu.cstar, &cpu.sfmask, &cpu.kernel_gs_base, &cpu.tsc_offset, &cpu.tsc_aux, &cpu.pat,
        &cpu.misc_enable, &cpu.sysenter_cs, &cpu.sysenter_esp, &cpu.sysenter_eip}) {
    visit.value(*field);
  }
  for (auto& dr : cpu.dr)
    visit.value(dr);
  for (auto& xmm : cpu.fpu.xmm)
    visit.bytes(xmm);
  visit.bytes(cpu.fpu.x87);
  visit.value(cpu.fpu.mxcsr);
  visit.value(cpu.position.steps);
  visit.value(cpu.position.user_steps);
  visit.value(cpu.halted);
  visit.value(cpu.interrupt_shadow);
}

}  // namespace

std::vector<std::byte> encode_cpu(const CpuSnapshot& cpu) {
  CpuSnapshot copy = cpu;
  Saver saver;
  visit_cpu(saver, copy);
  return saver.take();
}

std::expected<CpuSnapshot, std::string> decode_cpu(std::span<const std::byte> bytes) {
  CpuSnapshot cpu;
  Loader loader(bytes);
  visit_cpu(loader, cpu);
  if (!loader.whole() || cpu.interrupt_shadow > 1) {
    return std::unexpected("the CPU's state is malformed");
  }
  return cpu;
}

}  // namespace node_mesh
