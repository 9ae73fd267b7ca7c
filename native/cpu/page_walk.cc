#include "cpu/page_walk.h"

#include <cstring>

namespace node_mesh {
namespace {

// Page tables outside of RAM read as not present.
u64 read_entry(const GuestMemory& memory, u64 gpa) {
  if (!memory.contains(gpa, sizeof(u64))) return 0;
  u64 entry;
  std::memcpy(&entry, memory.base() + gpa, sizeof entry);
  return entry;
}

u64 reserved_bits(unsigned level, u64 entry, bool no_execute_enabled) {
  u64 bits = pte::reserved;
  if (!no_execute_enabled) bits |= pte::no_execute;
  if (level == 4) bits |= pte::large;
  if (level == 3 && (entry & pte::large)) bits |= 0x3fffe000;
  if (level == 2 && (entry & pte::large)) bits |= 0x1fe000;
  return bits;
}

}  // namespace

PageWalk walk_pages(const GuestMemory& memory, const PagingControl& control, u64 va, Access access,
                    bool user) {
  PageWalk walk;
  const u32 kind = (access == Access::write ? pf::write : 0) | (user ? pf::user : 0) |
                   (access == Access::fetch && control.no_execute ? pf::fetch : 0);
  u64 table = control.cr3 & pte::address;
  bool writable = true, user_ok = true, executable = true;
  for (unsigned level = 4;; --level) {
    const unsigned shift = 3 + level * 9;
    const u64 entry_gpa = table + ((va >> shift) & 0x1ff) * 8;
    const u64 entry = read_entry(memory, entry_gpa);
    walk.steps[walk.levels++] = {entry_gpa, entry};
    if (!(entry & pte::present)) {
      walk.error = kind;
      return walk;
    }
    if (entry & reserved_bits(level, entry, control.no_execute)) {
      walk.error = kind | pf::present | pf::reserved;
      return walk;
    }
    writable = writable && (entry & pte::writable);
    user_ok = user_ok && (entry & pte::user);
    executable = executable && !(entry & pte::no_execute);
    table = entry & pte::address;
    if (level == 1 || (level < 4 && (entry & pte::large))) {
      const u64 in_page = (u64{1} << shift) - 1;
      walk.gpa = (table & ~in_page) | (va & in_page);
      break;
    }
  }
  walk.writable = writable || (!user && !control.write_protect);
  walk.user = user_ok;
  walk.executable = executable;
  const bool permitted = (!user || user_ok) && (access != Access::write || walk.writable) &&
                         (access != Access::fetch || executable);
  if (!permitted) walk.error = kind | pf::present;
  walk.ok = permitted;
  return walk;
}

}  // namespace node_mesh
