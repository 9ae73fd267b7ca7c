#include "cpu/mmu.h"

#include <cstring>

#include "cpu/access.h"
#include "cpu/block_cache.h"
#include "kvm/user_engine.h"

namespace node_mesh {
namespace {

constexpr u64 upper_half_bit = u64{1} << 63;
constexpr u32 many_slots = 0xffff;

bool in_upper_half(u64 va) { return va & upper_half_bit; }
constexpr u64 table_span(u8 level) { return u64{1} << (12 + level * 9); }

}  // namespace

Mmu::Mmu(Core& core, GuestMemory& memory)
    : core_(core),
      memory_(memory),
      kernel_(std::make_unique<TranslationSet>(TranslationSet::kernel_size)),
      never_hits_(std::make_unique<TranslationSet>(TranslationSet::Size{2, 2, 2})),
      page_flags_(memory.page_count()),
      writable_refs_(memory.page_count()),
      tables_(memory.page_count()) {
  spaces_[0].set = std::make_unique<TranslationSet>(TranslationSet::user_size);
}

PagingControl Mmu::control() const {
  return {core_.cr3, (core_.cr0 & cr0::wp) != 0, (core_.efer & efer::nxe) != 0};
}

u64 Mmu::translate(const Insn* i, u64 va, Access access, bool user) {
  const PageWalk walk = walk_pages(memory_, control(), va, access, user);
  if (!walk.ok) raise_page_fault(&core_, i, va, walk.error);
  set_entry_bits(i, walk, access);
  if (is_ram(walk.gpa)) {
    note_tables(va, walk);
    fill(va, walk, access, user);
  }
  return walk.gpa;
}

void Mmu::set_entry_bits(const Insn* i, const PageWalk& walk, Access access) {
  for (unsigned step = 0; step < walk.levels; ++step) {
    const bool leaf = step + 1u == walk.levels;
    u64 bits = pte::accessed;
    if (leaf && access == Access::write) bits |= pte::dirty;
    const PageWalk::Step& at = walk.steps[step];
    if ((at.entry & bits) == bits) continue;
    const u64 gfn = at.entry_gpa >> 12;
    if (page_flags_[gfn] & page_has_code) prepare_code_store(i, at.entry_gpa, sizeof(u64));
    if (page_flags_[gfn] & page_is_scanned) engine_->forbid_execution(gfn);
    // Read again: one table page may serve two levels of this walk.
    u64 entry;
    std::memcpy(&entry, memory_.base() + at.entry_gpa, sizeof entry);
    entry |= bits;
    std::memcpy(memory_.base() + at.entry_gpa, &entry, sizeof entry);
    memory_.mark_dirty(gfn);
    note_written(gfn);
  }
}

void Mmu::note_tables(u64 va, const PageWalk& walk) {
  const int scope = in_upper_half(va) ? kernel_scope : current_;
  for (unsigned step = 0; step < walk.levels; ++step) {
    const auto level = static_cast<u8>(4 - step);
    const u64 gfn = walk.steps[step].entry_gpa >> 12;
    if (level == 4) {
      note_table(gfn, 4, 0, current_);
    } else {
      note_table(gfn, level, va & ~(table_span(level) - 1), scope);
    }
  }
}

void Mmu::note_table(u64 gfn, u8 level, u64 va_base, int scope) {
  if (tables_.note(gfn, level, va_base, scope)) restrict_page(gfn, page_is_table);
}

// A page that is special from now on: every store to it takes the slow path.
void Mmu::restrict_page(u64 gfn, u8 flag) {
  if (page_flags_[gfn] == 0) purge_writable(gfn);
  if (engine_ != nullptr) engine_->forbid_writes(gfn);
  page_flags_[gfn] |= flag;
}

void Mmu::fill(u64 va, const PageWalk& walk, Access access, bool user) {
  TranslationSet& set = user ? *spaces_[static_cast<unsigned>(current_)].set : *kernel_;
  const u64 page = va & ~page_mask;
  const u64 gfn = walk.gpa >> 12;
  const u64 slot = set.tlb_slot(va);
  const bool journal = !user && !in_upper_half(va);
  if (user && in_upper_half(va)) user_upper_half_ = true;
  if (access == Access::fetch) {
    set.fetch_entry(va) = {page, gfn};
    lower_half_executed_ |= journal;
    return;
  }
  const TlbEntry entry{page,
                       reinterpret_cast<u64>(memory_.base()) + (walk.gpa & ~page_mask) - page};
  set.read[slot] = entry;
  if (journal && lower_half_.size() < lower_half_max) lower_half_.push_back(static_cast<u16>(slot));
  const bool dirty = access == Access::write || (walk.leaf().entry & pte::dirty);
  if (!walk.writable || !dirty || page_flags_[gfn] != 0) return;
  if (access == Access::write) {
    memory_.mark_dirty(gfn);
    note_written(gfn);
  } else if (logging_writes_) {
    return;
  }
  if (!memory_.dirty_bytes()[gfn]) return;
  set.write[slot] = entry;
  remember_writable(gfn, slot, user);
}

void Mmu::remember_writable(u64 gfn, u64 slot, bool user) {
  u32& refs = writable_refs_[gfn];
  const unsigned shift = user ? 16 : 0;
  const u32 known = (refs >> shift) & 0xffff;
  const auto mine = static_cast<u32>(slot + 1);
  if (known == mine) return;
  const u32 now = known == 0 ? mine : many_slots;
  refs = (refs & ~(0xffffu << shift)) | (now << shift);
}

// A page that begins to hold code or page tables must not be written past us any longer.
void Mmu::purge_writable(u64 gfn) {
  const u32 refs = writable_refs_[gfn];
  if (refs == 0) return;
  const u64 host_page = reinterpret_cast<u64>(memory_.base()) + gfn * page_bytes;
  const auto purge_set = [&](TranslationSet& set, u32 ref) {
    const auto purge_slot = [&](TlbEntry& entry) {
      if (entry.tag != no_address && entry.tag + entry.addend == host_page) entry = TlbEntry{};
    };
    if (ref == many_slots) {
      for (TlbEntry& entry : set.write)
        purge_slot(entry);
    } else if (ref != 0) {
      purge_slot(set.write[ref - 1]);
    }
  };
  purge_set(*kernel_, refs & 0xffff);
  for (Space& space : spaces_) {
    if (space.set) purge_set(*space.set, refs >> 16);
  }
  writable_refs_[gfn] = 0;
}

u64 Mmu::fetch_gfn(u64 va) {
  const TranslationSet::FetchEntry& entry = current_set().fetch_entry(va);
  if (entry.tag == (va & ~page_mask)) return entry.gfn;
  if (!is_canonical(va)) raise_error(&core_, nullptr, vector::gp, 0);
  return translate(nullptr, va, Access::fetch, core_.user()) >> 12;
}

u64 Mmu::current_code_gfn() {
  const TranslationSet::FetchEntry& entry = current_set().fetch_entry(core_.page_va);
  return entry.tag == core_.page_va ? entry.gfn : ~u64{0};
}

void Mmu::mark_code(u64 gfn) { restrict_page(gfn, page_has_code); }

TranslationSet& Mmu::current_set() {
  return core_.user() ? *spaces_[static_cast<unsigned>(current_)].set : *kernel_;
}

void Mmu::select_tables() {
  TranslationSet& set = current_set();
  core_.jumps = {set.jumps.data(), table_mask(set.jumps.size())};
  const bool alignment_checked =
      core_.user() && (core_.cr0 & cr0::am) && (core_.sysflags & rflags::ac);
  const bool watched = core_.dr[7] & 0xff;
  TranslationSet& data = alignment_checked || watched ? *never_hits_ : set;
  core_.tlb_read = {data.read.data(), table_mask(data.read.size())};
  core_.tlb_write = {data.write.data(), table_mask(data.write.size())};
}

void Mmu::prepare_store(const Insn* i, u64 gpa, const void* from, unsigned size) {
  const u8 flags = page_flags_[gpa >> 12];
  if (flags & page_has_code) prepare_code_store(i, gpa, size);
  if (flags & page_is_table) prepare_table_store(i, gpa, from, size);
  if (flags & page_is_scanned) engine_->forbid_execution(gpa >> 12);
}

void Mmu::commit_store(u64 gpa, const void* from, unsigned size) {
  std::memcpy(memory_.base() + gpa, from, size);
  memory_.mark_dirty(gpa >> 12);
  note_written(gpa >> 12);
}

void Mmu::prepare_code_store(const Insn* i, u64 gpa, unsigned size) {
  const u64 gfn = gpa >> 12;
  if (!core_.blocks->holds_code(gfn, gpa & page_mask, size)) return;
  if (i != nullptr) {
    const u64 running = current_code_gfn();
    if (running == gfn || running == ~u64{0}) require_alone(&core_, i);
  }
  core_.blocks->kill_page(gfn);
}

void Mmu::prepare_table_store(const Insn* i, u64 gpa, const void* from, unsigned size) {
  const u64 end = gpa + size;
  for (u64 entry_gpa = gpa & ~u64{7}; entry_gpa < end; entry_gpa += 8) {
    u64 before;
    std::memcpy(&before, memory_.base() + entry_gpa, sizeof before);
    if (!(before & pte::present)) continue;
    u64 after = before;
    const u64 first = std::max(entry_gpa, gpa);
    const u64 last = std::min(entry_gpa + 8, end);
    std::memcpy(reinterpret_cast<u8*>(&after) + (first - entry_gpa),
                static_cast<const u8*>(from) + (first - gpa), last - first);
    if (before == after) continue;
    // Dropping may have made the page an ordinary one: look it up anew each time.
    const TableRecord* record = tables_.find(gpa >> 12);
    if (record == nullptr) return;
    drop_entry(i, *record, static_cast<unsigned>((entry_gpa & page_mask) / 8));
  }
}

// Is the code that runs right now fetched through translations of this scope?
bool Mmu::runs_from(int scope) const {
  return in_upper_half(core_.page_va) ? scope == kernel_scope : scope == current_;
}

// `record` is copied where a flush may free it.
void Mmu::drop_entry(const Insn* i, const TableRecord& record, unsigned index) {
  if (record.shared) {
    if (i != nullptr) require_alone(&core_, i);
    flush_everything();
    return;
  }
  int scope = record.scope;
  if (record.level == 4 && index >= 256) {
    if (scope != current_) return;  // its upper half is compared when it becomes current again
    scope = kernel_scope;
  }
  if (record.level == 1) {
    const u64 page = record.va_base + index * page_bytes;
    if (i != nullptr && page == core_.page_va && runs_from(scope)) require_alone(&core_, i);
    if (scope == kernel_scope || scope == current_) kernel_->drop_page(page);
    if (scope != kernel_scope) {
      spaces_[static_cast<unsigned>(scope)].set->drop_page(page);
      if (engine_ != nullptr) engine_->drop_page(scope, page);
    } else if (user_upper_half_) {
      for (Space& space : spaces_) {
        if (space.set) space.set->drop_page(page);
      }
    }
    return;
  }
  if (i != nullptr && runs_from(scope)) require_alone(&core_, i);
  if (scope == kernel_scope) {
    flush_kernel();
  } else {
    flush_space(scope);
  }
}

void Mmu::memory_written(u64 gpa, u64 size_bytes) {
  if (size_bytes == 0 || gpa >= memory_.size_bytes()) return;
  const u64 last = std::min(gpa + size_bytes, memory_.size_bytes()) - 1;
  for (u64 gfn = gpa >> 12; gfn <= last >> 12; ++gfn) {
    if (page_flags_[gfn] & page_has_code) core_.blocks->kill_page(gfn);
    if (page_flags_[gfn] & page_is_table) flush_everything();
    if (page_flags_[gfn] & page_is_scanned) engine_->forbid_execution(gfn);
  }
}

}  // namespace node_mesh
