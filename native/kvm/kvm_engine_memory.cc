// The memory side of the engine: page faults of the vCPU, and which code may run in it.
#include <tuple>

#include "cpu/block_cache.h"
#include "kvm/host_time.h"
#include "kvm/kvm_engine.h"

namespace node_mesh {
namespace {

// After so many changes from code to data the software CPU has such a page for a while.
constexpr unsigned flips_max = 8;
constexpr u64 flip_pause_ns = 100'000'000;
constexpr std::size_t flip_pages_max = 4096;  // at the cap all are forgotten

}  // namespace

// True: the access is possible now. False: the software CPU has to look at it.
bool KvmEngine::take_fault(Core& core, std::uint64_t va, std::uint64_t error) {
  if ((va >> 47) != 0 || monitor_.covers(va)) return false;
  const Access access = (error & pf::fetch)   ? Access::fetch
                        : (error & pf::write) ? Access::write
                                              : Access::read;
  const auto page = mmu_->resolve_native(va, access);
  if (!page) {
    ++counters_.guest_faults;
    return false;
  }
  const u64 gfn = page->gpa >> 12;
  bool writable = false, executable = false;
  if (access == Access::fetch) {
    if (!make_executable(core, gfn, va)) {
      ++counters_.blocked_fetches;
      return false;
    }
    executable = true;
  } else if (access == Access::write) {
    // An instruction that writes the very page that it lies in would need both rights at once.
    const auto code = mmu_->look_up_user(core.rip);
    if (code && *code >> 12 == gfn) return false;
    if (!mmu_->release_for_native_write(gfn)) return false;
    writable = true;
  } else {
    writable = page->writable && mmu_->plain_page(gfn);
  }
  // KVM asks again for what it was not told: twice the same fault would never end.
  if (tables_.is_mapped(space_, va, access == Access::write, executable) && va == last_fault_va_ &&
      ++same_faults_ > same_faults_max) {
    return false;
  }
  if (va != last_fault_va_) same_faults_ = 0;
  last_fault_va_ = va;
  if (!map(*page, writable, executable)) return false;
  map_beside(space_, va);
  return true;
}

bool KvmEngine::map(const Mmu::NativePage& page, bool writable, bool executable) {
  if (tables_.map(space_, page.va, page.gpa, writable, executable)) return true;
  return renew_tables() && tables_.map(space_, page.va, page.gpa, writable, executable);
}

// The other pages of that table that user code has used before: they would fault one by one.
void KvmEngine::map_beside(unsigned space, std::uint64_t va) {
  mmu_->for_each_used_page_beside(va, [&](const Mmu::NativePage& page) {
    const u64 gfn = page.gpa >> 12;
    if (tables_.is_mapped(space, page.va, false, false)) return;
    const bool writable = page.writable && mmu_->plain_page(gfn);
    const bool executable = page.executable && mmu_->is_scanned(gfn) && !code_.blocked(gfn);
    // Without room the page is mapped when it faults.
    if (!tables_.is_used_up()) {
      std::ignore = tables_.map(space, page.va, page.gpa, writable, executable);
    }
  });
}

CodePageBytes KvmEngine::code_of(std::uint64_t gfn) const {
  return CodePageBytes(reinterpret_cast<const std::uint8_t*>(memory_.base()) + gfn * page_bytes,
                       page_bytes);
}

// What lies in front helps to tell code from the inside of instructions; what lies behind completes
// the one that the page's end cuts off. The verdict is not taken back when another page takes the
// place behind: that is the limit of page_scan.h, for programs that change half an instruction.
CodeNeighbours KvmEngine::neighbours_of(std::uint64_t va) const {
  const u64 page = va & ~page_mask;
  const auto* memory = reinterpret_cast<const std::uint8_t*>(memory_.base());
  CodeNeighbours around;
  if (const auto before = mmu_->look_up_user(page - bytes_before_max)) {
    around.before = {memory + *before, bytes_before_max};
  }
  if (const auto after = mmu_->look_up_user(page + page_bytes)) {
    around.after = {memory + *after, bytes_after_max};
  }
  return around;
}

// A page that was code is written again.
void KvmEngine::note_flip(std::uint64_t gfn) {
  if (flips_.size() > flip_pages_max) flips_.clear();
  Flips& flips = flips_[gfn];
  if (++flips.count % flips_max == 0) flips.until_ns = host_now_ns() + flip_pause_ns;
}

bool KvmEngine::flips_too_often(std::uint64_t gfn) {
  const auto found = flips_.find(gfn);
  return found != flips_.end() && host_now_ns() < found->second.until_ns;
}

// Scans the page when nothing is known about it. Where it holds something that must not run here,
// the software CPU runs it; what it is seen to run there may show that it is harmless.
bool KvmEngine::make_executable(Core& core, std::uint64_t gfn, std::uint64_t va) {
  if (!mmu_->is_scanned(gfn)) {
    if (flips_too_often(gfn)) return false;
    code_.forget(gfn);
    mmu_->mark_scanned(gfn);
    ++counters_.scanned_pages;
    if (code_.clean(gfn, code_of(gfn), neighbours_of(va))) return true;
    ++counters_.blocked_pages;
  } else if (!code_.blocked(gfn)) {
    return true;
  }
  const auto seen = [&](u64 offset) {
    return code_.executed(gfn, static_cast<std::uint16_t>(offset), code_of(gfn));
  };
  bool clean = seen(core.rip & page_mask);
  core.blocks->for_each_start(gfn, [&](u64 offset) { clean = clean || seen(offset); });
  return clean;
}

std::optional<unsigned char> KvmEngine::code_byte(std::uint64_t va) const {
  const auto gpa = mmu_->look_up_user(va);
  if (!gpa) return std::nullopt;
  return std::to_integer<unsigned char>(memory_.base()[*gpa]);
}

bool KvmEngine::renew_tables() {
  ++counters_.table_resets;
  tables_.begin_anew();
  if (auto renewed = vm_.renew_region(pool_region_); !renewed) {
    fail(renewed.error());
    return false;
  }
  return true;
}

}  // namespace node_mesh
