// The page walk against a second, naive implementation written from the manual's words, on random
// tables.
#include "cpu/page_walk.h"

#include <doctest/doctest.h>

#include <cstring>
#include <random>

#include "machine/check.h"

namespace node_mesh {
namespace {

constexpr u64 memory_bytes = 1 << 20;
constexpr unsigned table_pages = 64;

struct Expected {
  bool fault;
  u32 error;
  u64 gpa;
};

bool bit(u64 value, unsigned n) { return (value >> n) & 1; }

// One level at a time, each condition as the manual lists it.
Expected naive_walk(const GuestMemory& memory, const PagingControl& control, u64 va, Access access,
                    bool user) {
  const bool is_write = access == Access::write, is_fetch = access == Access::fetch;
  u32 code = 0;
  if (is_write) code |= 2;
  if (user) code |= 4;
  if (is_fetch && control.no_execute) code |= 16;
  u64 table = (control.cr3 >> 12 << 12) & 0xffffffffff;
  bool all_writable = true, all_user = true, any_no_execute = false;
  const unsigned index_shift[] = {39, 30, 21, 12};
  for (unsigned level = 0; level < 4; ++level) {
    u64 entry = 0;
    const u64 at = table + ((va >> index_shift[level]) % 512) * 8;
    if (memory.contains(at, 8)) std::memcpy(&entry, memory.base() + at, 8);
    if (!bit(entry, 0)) return {true, code, 0};
    bool reserved = (entry >> 40) % 4096 != 0;
    if (bit(entry, 63) && !control.no_execute) reserved = true;
    if (level == 0 && bit(entry, 7)) reserved = true;
    const bool leaf = level == 3 || (level != 0 && bit(entry, 7));
    if (leaf && level == 1 && (entry % (u64{1} << 30)) >> 13 != 0) reserved = true;
    if (leaf && level == 2 && (entry % (u64{1} << 21)) >> 13 != 0) reserved = true;
    if (reserved) return {true, code | 1 | 8, 0};
    if (!bit(entry, 1)) all_writable = false;
    if (!bit(entry, 2)) all_user = false;
    if (bit(entry, 63)) any_no_execute = true;
    table = entry % (u64{1} << 40) >> 12 << 12;
    if (!leaf) continue;
    bool ok = true;
    if (user && !all_user) ok = false;
    if (is_write && !all_writable && (user || control.write_protect)) ok = false;
    if (is_fetch && any_no_execute) ok = false;
    if (!ok) return {true, code | 1, 0};
    const u64 size = u64{1} << index_shift[level];
    return {false, 0, table / size * size + va % size};
  }
  return {true, code, 0};
}

u64 random_entry(std::mt19937_64& random) {
  u64 entry = (random() % table_pages) << 12;
  if (random() % 8 != 0) entry |= 1;
  entry |= random() & 0x166;
  if (random() % 3 != 0) entry |= 6;
  if (random() % 6 == 0) entry |= 0x80;
  if (random() % 6 == 0) entry |= u64{1} << 63;
  if (random() % 24 == 0) entry |= u64{1} << (random() % 64);
  if (random() % 6 == 0) entry &= ~u64{0x3fffe000};
  return entry;
}

TEST_CASE("random tables: the same translation, the same fault") {
  auto memory = GuestMemory::create(memory_bytes);
  REQUIRE(memory.has_value());
  std::mt19937_64 random(20240501);
  unsigned faults = 0, translations = 0;
  for (unsigned round = 0; round < 200; ++round) {
    for (u64 at = 0; at < table_pages * page_bytes; at += 8) {
      const u64 entry = random_entry(random);
      std::memcpy(memory->base() + at, &entry, sizeof entry);
    }
    for (unsigned k = 0; k < 2000; ++k) {
      const u64 va = static_cast<u64>(static_cast<s64>(random() << 16) >> 16);
      const PagingControl control{(random() % table_pages) << 12, random() % 2 == 0,
                                  random() % 4 != 0};
      const auto access = static_cast<Access>(random() % 3);
      const bool user = random() % 2 == 0;
      const Expected expected = naive_walk(*memory, control, va, access, user);
      const PageWalk walk = walk_pages(*memory, control, va, access, user);
      REQUIRE(walk.ok == !expected.fault);
      if (walk.ok) {
        REQUIRE(walk.gpa == expected.gpa);
        ++translations;
      } else {
        REQUIRE(walk.error == expected.error);
        ++faults;
      }
    }
  }
  // Both outcomes must be common, or the tables are not random enough to say anything.
  CHECK(faults > 20000);
  CHECK(translations > 20000);
}

}  // namespace
}  // namespace node_mesh
