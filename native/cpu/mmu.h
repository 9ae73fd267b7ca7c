// The software MMU: translation caches that are coherent with the guest's page tables at every
// instruction. It owns the caches, the knowledge of which guest pages hold code or page tables, and
// every store that is not a plain cache hit. It never keeps a translation that the guest's tables,
// read now, would not give.
//
// There is one cache for supervisor accesses and one per address space (CR3) for user accesses. The
// upper half of the address space counts as common to all spaces as long as the roots' upper halves
// are equal, which is checked whenever CR3 is loaded.
#pragma once

#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "cpu/core.h"
#include "cpu/lazy_array.h"
#include "cpu/page_walk.h"
#include "cpu/table_registry.h"

namespace node_mesh {

// The caches of one translation context. Jump entries are by virtual address.
struct TranslationSet {
  struct FetchEntry {
    u64 tag = no_address;
    u64 gfn = 0;
  };
  // Powers of two. Small ones are quick to clear, which short-lived processes do all the time.
  struct Size {
    u64 tlb, fetch, jumps;
  };
  static constexpr Size kernel_size{1024, 1024, 4096};
  static constexpr Size user_size{512, 128, 1024};

  std::vector<TlbEntry> read, write;
  std::vector<FetchEntry> fetch;
  std::vector<JumpEntry> jumps;
  std::array<u64, 512> executed{};  // Bloom filter of pages that the jump entries point into
  bool jumps_used = false;

  explicit TranslationSet(Size size)
      : read(size.tlb), write(size.tlb), fetch(size.fetch), jumps(size.jumps) {
    forget_jumps();
  }
  u64 tlb_slot(u64 va) const { return (va >> 12) & (read.size() - 1); }
  FetchEntry& fetch_entry(u64 va) { return fetch[(va >> 12) & (fetch.size() - 1)]; }
  void clear();
  void clear_jumps();
  void forget_jumps();
  void drop_page(u64 page);
  void note_executed(u64 page) {
    executed[(page >> 18) & 511] |= u64{1} << ((page >> 12) & 63);
    jumps_used = true;
  }
  bool maybe_executed(u64 page) const {
    return (executed[(page >> 18) & 511] >> ((page >> 12) & 63)) & 1;
  }
};

inline constexpr u8 page_has_code = 1;
inline constexpr u8 page_is_table = 2;
inline constexpr u8 page_is_scanned = 4;  // a user engine relies on the page's bytes as code

class UserEngine;

class Mmu {
 public:
  Mmu(Core& core, GuestMemory& memory);

  // The guest-physical address of `va`, with accessed/dirty bits set; faults unwind.
  u64 translate(const Insn* i, u64 va, Access access, bool user);
  // The page that instructions at `va` are fetched from.
  u64 fetch_gfn(u64 va);

  bool is_ram(u64 gpa) const { return memory_.contains(gpa, 1); }
  // Stores inside one page of RAM. prepare_store() does what must be known before any byte changes
  // (it may unwind to run the instruction alone); commit_store() changes the bytes.
  void prepare_store(const Insn* i, u64 gpa, const void* from, unsigned size);
  void commit_store(u64 gpa, const void* from, unsigned size);
  // Is a plain host write to this page enough (besides marking it dirty)?
  bool plain_page(u64 gfn) const { return page_flags_[gfn] == 0; }

  void load_cr3(u64 value);
  // CR0.WP or EFER.NXE changed, or the machine's state was replaced.
  void flush_everything();
  // Points the handlers at the caches of the current privilege level.
  void select_tables();
  void forget_writable_pages();
  void memory_written(u64 gpa, u64 size_bytes);

  // For an engine that runs user code directly, on translations derived from here.
  void set_engine(UserEngine* engine) { engine_ = engine; }
  int current_space() const { return current_; }
  struct NativePage {
    u64 va = 0;
    u64 gpa = 0;
    bool writable = false;  // and the dirty bit is set
    bool executable = false;
  };
  // What a user access at `va` finds, with accessed/dirty bits set as the access does. Nothing when
  // it faults or does not reach RAM: then the software CPU has to run the instruction.
  std::optional<NativePage> resolve_native(u64 va, Access access);
  // Where user code could read the byte at `va`, in RAM; sets no bits.
  std::optional<u64> look_up_user(u64 va) const;
  // The pages of the same page table that user code has used already; sets no bits.
  template <class Callback>
  void for_each_used_page_beside(u64 va, Callback callback) const;
  // Before user code may write the page directly. False: stores must stay in the software CPU.
  bool release_for_native_write(u64 gfn);
  bool is_scanned(u64 gfn) const { return page_flags_[gfn] & page_is_scanned; }
  void mark_scanned(u64 gfn);
  void unmark_scanned(u64 gfn) { page_flags_[gfn] &= static_cast<u8>(~page_is_scanned); }
  // From here on, remember which pages change (until end_write_log).
  void begin_write_log();
  void end_write_log() { logging_writes_ = false; }
  const std::vector<u64>& written_pages() const { return written_; }

  // For the block cache.
  void mark_code(u64 gfn);
  void unmark_code(u64 gfn) { page_flags_[gfn] &= static_cast<u8>(~page_has_code); }
  TranslationSet& current_set();
  template <class Callback>
  void for_each_set(Callback callback) {
    callback(*kernel_);
    for (Space& space : spaces_) {
      if (space.set) callback(*space.set);
    }
  }

 private:
  struct Space {
    u64 root = no_address;
    u64 last_used = 0;
    std::unique_ptr<TranslationSet> set;
  };
  static constexpr unsigned space_limit = 16;
  static constexpr u64 lower_half_max = 1024;

  PagingControl control() const;
  void set_entry_bits(const Insn* i, const PageWalk& walk, Access access);
  void note_tables(u64 va, const PageWalk& walk);
  void note_table(u64 gfn, u8 level, u64 va_base, int scope);
  void fill(u64 va, const PageWalk& walk, Access access, bool user);
  void remember_writable(u64 gfn, u64 slot, bool user);
  void purge_writable(u64 gfn);
  void prepare_code_store(const Insn* i, u64 gpa, unsigned size);
  void prepare_table_store(const Insn* i, u64 gpa, const void* from, unsigned size);
  void drop_entry(const Insn* i, const TableRecord& record, unsigned index);
  bool runs_from(int scope) const;
  void flush_space(int index);
  void flush_kernel();
  void clear_lower_half();
  void note_root();
  int find_space(u64 root);
  const u8* upper_half(u64 root) const;
  u64 current_code_gfn();
  void restrict_page(u64 gfn, u8 flag);
  void note_written(u64 gfn) {
    if (logging_writes_) written_.push_back(gfn);
  }

  Core& core_;
  GuestMemory& memory_;
  std::unique_ptr<TranslationSet> kernel_;
  std::unique_ptr<TranslationSet> never_hits_;  // all accesses take the slow path
  std::array<Space, space_limit> spaces_;
  int current_ = 0;
  u64 use_clock_ = 0;
  bool user_upper_half_ = false;  // some user cache holds addresses of the upper half
  std::vector<u16> lower_half_;   // slots of the supervisor caches that hold lower-half addresses
  bool lower_half_executed_ = false;
  LazyArray<u8> page_flags_;
  LazyArray<u32> writable_refs_;  // low half: slot of the supervisor write cache, high: user's
  TableRegistry tables_;
  UserEngine* engine_ = nullptr;
  bool logging_writes_ = false;
  std::vector<u64> written_;
};

template <class Callback>
void Mmu::for_each_used_page_beside(u64 va, Callback callback) const {
  const PageWalk walk = walk_pages(memory_, control(), va, Access::read, true);
  if (!walk.ok) return;
  bool writable = true, executable = true;
  for (unsigned step = 0; step + 1u < walk.levels; ++step) {
    const u64 entry = walk.steps[step].entry;
    if (!(entry & pte::accessed)) return;
    writable = writable && (entry & pte::writable);
    executable = executable && !(entry & pte::no_execute);
  }
  constexpr u64 table_bytes = 512 * page_bytes;
  const u64 first_va = va & ~(table_bytes - 1);
  const u64 table = walk.leaf().entry_gpa & ~page_mask;
  for (u64 index = 0; index < 512; ++index) {
    u64 entry = walk.leaf().entry;
    u64 gpa = (walk.gpa & ~(table_bytes - 1)) + index * page_bytes;
    if (walk.levels == 4) {
      std::memcpy(&entry, memory_.base() + table + index * 8, sizeof entry);
      gpa = entry & pte::address;
    } else if (walk.levels != 3) {
      return;
    }
    constexpr u64 needed = pte::present | pte::user | pte::accessed;
    if ((entry & needed) != needed || (entry & pte::reserved) || !is_ram(gpa)) continue;
    callback(NativePage{first_va + index * page_bytes, gpa,
                        writable && (entry & pte::writable) && (entry & pte::dirty),
                        executable && !(entry & pte::no_execute)});
  }
}

}  // namespace node_mesh
