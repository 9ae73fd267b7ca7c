// Shadow tables: what is mapped, that nothing the vCPU may have seen is narrowed in place, and that
// a page is found wherever it is mapped.
#include "kvm/shadow_tables.h"

#include <doctest/doctest.h>

#include <cstring>
#include <vector>

#include "cpu/page_walk.h"

namespace node_mesh {
namespace {

constexpr u64 pool_gpa = 1 << 20, pool_pages = 64, guest_pages = 1024;
constexpr u64 fixed_va = u64{50} << 39;

struct Bench {
  std::vector<std::byte> bytes = std::vector<std::byte>(pool_pages * page_bytes);
  ShadowTables tables{{bytes.data(), pool_gpa, pool_pages, 1},
                      guest_pages,
                      fixed_va,
                      {{pool_gpa, false, false, true}}};

  u64 entry(u64 root, u64 va) const {
    u64 at = root;
    for (unsigned level = 4; level > 0; --level) {
      u64 value;
      std::memcpy(&value, bytes.data() + (at - pool_gpa) + ((va >> (3 + level * 9)) & 511) * 8, 8);
      if (level == 1 || !(value & pte::present)) return value;
      at = value & pte::address;
    }
    return 0;
  }
};

}  // namespace

TEST_CASE("what is mapped has the rights that were asked for") {
  Bench bench;
  CHECK(bench.tables.map(3, 0x400000, 0x5000, true, false));
  CHECK(bench.tables.is_mapped(3, 0x400000, true, false));
  CHECK_FALSE(bench.tables.is_mapped(3, 0x400000, false, true));
  CHECK_FALSE(bench.tables.is_mapped(4, 0x400000, false, false));
  const u64 root = bench.tables.enter(3);
  CHECK((bench.entry(root, 0x400000) & pte::address) == 0x5000);
  CHECK((bench.entry(root, fixed_va) & pte::address) == pool_gpa);
  CHECK((bench.entry(root, fixed_va) & pte::user) == 0);
}

TEST_CASE("adding and widening keep the root, narrowing after an entry changes it") {
  Bench bench;
  CHECK(bench.tables.map(0, 0x1000, 0x5000, false, false));
  const u64 first = bench.tables.enter(0);
  CHECK(bench.tables.map(0, 0x2000, 0x6000, false, false));
  CHECK(bench.tables.map(0, 0x1000, 0x5000, true, false));
  CHECK(bench.tables.enter(0) == first);
  bench.tables.unmap(0, 0x2000);
  const u64 second = bench.tables.enter(0);
  CHECK(second != first);
  CHECK((bench.entry(first, 0x2000) & pte::present) != 0);  // as the vCPU knew it
  CHECK((bench.entry(second, 0x2000) & pte::present) == 0);
  CHECK((bench.entry(second, 0x1000) & pte::writable) != 0);
}

TEST_CASE("rights are taken from every place where a page is mapped") {
  Bench bench;
  CHECK(bench.tables.map(0, 0x1000, 0x5000, true, false));
  CHECK(bench.tables.map(1, 0x7fff0000, 0x5000, true, true));
  CHECK(bench.tables.map(1, 0x3000, 0x8000, true, true));
  bench.tables.enter(0);
  bench.tables.forbid_writes(5);
  CHECK_FALSE(bench.tables.is_mapped(0, 0x1000, true, false));
  CHECK_FALSE(bench.tables.is_mapped(1, 0x7fff0000, true, false));
  CHECK(bench.tables.is_mapped(1, 0x7fff0000, false, true));
  bench.tables.forbid_execution(5);
  CHECK_FALSE(bench.tables.is_mapped(1, 0x7fff0000, false, true));
  CHECK(bench.tables.is_mapped(1, 0x3000, true, true));
}

TEST_CASE("a pool that is used up loses mappings, never coherence") {
  Bench bench;
  CHECK(bench.tables.map(0, 0x1000, 0x5000, true, false));
  for (unsigned n = 0; n < 200 && !bench.tables.is_used_up(); ++n) {
    bench.tables.enter(0);
    bench.tables.unmap(0, 0x1000);
    CHECK_FALSE(bench.tables.is_mapped(0, 0x1000, false, false));
    if (!bench.tables.map(0, 0x1000, 0x5000, true, false)) break;
  }
  CHECK(bench.tables.is_used_up());
  bench.tables.begin_anew();
  CHECK_FALSE(bench.tables.is_mapped(0, 0x1000, false, false));
  CHECK(bench.tables.map(0, 0x1000, 0x5000, true, false));
}

TEST_CASE("a page that takes another's place replaces it in new tables") {
  Bench bench;
  CHECK(bench.tables.map(0, 0x1000, 0x5000, true, false));
  const u64 first = bench.tables.enter(0);
  CHECK(bench.tables.map(0, 0x1000, 0x6000, false, false));
  const u64 second = bench.tables.enter(0);
  CHECK(first != second);
  CHECK((bench.entry(first, 0x1000) & pte::address) == 0x5000);
  CHECK((bench.entry(second, 0x1000) & pte::address) == 0x6000);
  CHECK_FALSE(bench.tables.is_mapped(0, 0x1000, true, false));
}

}  // namespace node_mesh
