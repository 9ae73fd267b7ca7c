// Whatever is planted is found: at each offset, among any bytes, cut by the page's end. And code
// that holds hazards only inside of other instructions is mostly seen through.
#include "kvm/scan/page_scan.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <random>

namespace node_mesh {
namespace {

using Page = std::array<std::uint8_t, code_page_bytes>;
using Bytes = std::vector<std::uint8_t>;

const std::vector<Bytes>& hazards() {
  static const std::vector<Bytes> all = {
      {0x0f, 0x31},                          // RDTSC
      {0x0f, 0x01, 0xf9},                    // RDTSCP
      {0x0f, 0xa2},                          // CPUID
      {0x0f, 0xc7, 0xf0},                    // RDRAND
      {0x48, 0x0f, 0xc7, 0xf8},              // RDSEED
      {0xf3, 0x0f, 0xc7, 0xf8},              // RDPID
      {0x0f, 0x01, 0xd0},                    // XGETBV
      {0x0f, 0x01, 0x04, 0x25, 0, 0, 1, 0},  // SGDT
      {0x0f, 0x01, 0x0c, 0x25, 0, 0, 1, 0},  // SIDT
      {0x0f, 0x00, 0xc0},                    // SLDT
      {0x0f, 0x00, 0xc8},                    // STR
      {0x0f, 0x01, 0xe0},                    // SMSW
      {0x0f, 0x02, 0xc0},                    // LAR
      {0x8c, 0xd8},                          // MOV from DS
      {0x8e, 0xe0},                          // MOV to FS
      {0x48, 0xcb},                          // RETF
      {0xd9, 0x30},                          // FNSTENV
      {0x0f, 0x53, 0xc0},                    // RCPPS
      {0xf3, 0x0f, 0xbc, 0xc0},              // TZCNT
      {0xc4, 0xe2, 0x78, 0xf2, 0xc0},        // ANDN
      {0xc5, 0xf8, 0x77},                    // VZEROUPPER
      {0x62, 0xf1, 0x7c, 0x48, 0x58, 0xc0},  // VADDPS
      {0xf3, 0x48, 0x0f, 0xae, 0xc0},        // RDFSBASE
      {0x0f, 0x01, 0xef},                    // WRPKRU
      {0x66, 0x0f, 0x38, 0xdc, 0xc1},        // AESENC
  };
  return all;
}

ZydisDecoder make_decoder() {
  ZydisDecoder decoder;
  ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
  return decoder;
}

// A random instruction that a program could hold and that is no hazard.
Bytes harmless(std::mt19937_64& random) {
  static const ZydisDecoder decoder = make_decoder();
  for (;;) {
    Bytes bytes(15);
    for (std::uint8_t& byte : bytes)
      byte = static_cast<std::uint8_t>(random());
    ZydisDecodedInstruction instruction;
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder, nullptr, bytes.data(), bytes.size(),
                                                    &instruction)) ||
        hazard_of(instruction) != Hazard::none ||
        (instruction.attributes & ZYDIS_ATTRIB_IS_PRIVILEGED) != 0) {
      continue;
    }
    bytes.resize(instruction.length);
    return bytes;
  }
}

// A stream of instructions; `starts` are the offsets at which they begin. Longer than a page.
Bytes stream(std::mt19937_64& random, std::vector<std::size_t>& starts) {
  Bytes code;
  while (code.size() < code_page_bytes + 32) {
    starts.push_back(code.size());
    const Bytes one = harmless(random);
    code.insert(code.end(), one.begin(), one.end());
  }
  return code;
}

Page first_page(const Bytes& code) {
  Page page;
  std::copy_n(code.begin(), code_page_bytes, page.begin());
  return page;
}

const Suspect* at_offset(const std::vector<Suspect>& suspects, std::size_t offset) {
  const auto found = std::ranges::find(suspects, offset, &Suspect::offset);
  return found == suspects.end() ? nullptr : &*found;
}

TEST_CASE("a planted hazard is a suspect at its offset, whatever is around it") {
  const PageScanner scanner({});
  std::mt19937_64 random(1);
  for (int round = 0; round < 40; ++round) {
    Page page;
    for (std::uint8_t& byte : page)
      byte = static_cast<std::uint8_t>(random());
    std::vector<std::size_t> planted;
    for (std::size_t at = random() % 64; at + 16 < page.size(); at += 16 + random() % 200) {
      const Bytes& bytes = hazards()[random() % hazards().size()];
      std::ranges::copy(bytes, page.begin() + static_cast<std::ptrdiff_t>(at));
      planted.push_back(at);
    }
    const auto suspects = scanner.scan(page);
    for (const std::size_t at : planted) {
      CAPTURE(round);
      CAPTURE(at);
      CHECK(at_offset(suspects, at) != nullptr);
    }
  }
}

TEST_CASE("where a program really holds one it is plausible") {
  const PageScanner scanner({});
  std::mt19937_64 random(2);
  for (int round = 0; round < 60; ++round) {
    std::vector<std::size_t> starts;
    Bytes code = stream(random, starts);
    const Bytes& bytes = hazards()[static_cast<std::size_t>(round) % hazards().size()];
    // Between two instructions, anywhere but in the last bytes.
    const std::size_t at = starts[random() % (starts.size() / 2)];
    code.insert(code.begin() + static_cast<std::ptrdiff_t>(at), bytes.begin(), bytes.end());
    const auto suspects = scanner.scan(first_page(code));
    const Suspect* suspect = at_offset(suspects, at);
    CAPTURE(round);
    REQUIRE(suspect != nullptr);
    CHECK(suspect->plausible);
    CHECK(suspect->length == bytes.size());
  }
}

TEST_CASE("cut by the page's end at each byte") {
  const PageScanner scanner({});
  std::mt19937_64 random(3);
  for (const Bytes& bytes : hazards()) {
    for (std::size_t inside = 1; inside < bytes.size(); ++inside) {
      std::vector<std::size_t> starts;
      Page page = first_page(stream(random, starts));
      const std::size_t at = code_page_bytes - inside;
      std::copy_n(bytes.begin(), inside, page.begin() + static_cast<std::ptrdiff_t>(at));
      CAPTURE(unsigned{bytes[0]});
      CAPTURE(inside);
      CHECK(at_offset(scanner.scan(page), at) != nullptr);
      // The neighbour holds the rest.
      Bytes after(bytes.begin() + static_cast<std::ptrdiff_t>(inside), bytes.end());
      after.resize(bytes_after_max, 0x90);
      const Suspect* suspect = at_offset(scanner.scan(page, {{}, after}), at);
      REQUIRE(suspect != nullptr);
      CHECK(suspect->hazard != Hazard::unknown);
      CHECK(suspect->length == inside);
    }
  }
}

TEST_CASE("a neighbour that completes it harmlessly clears the page's end") {
  const PageScanner scanner({});
  Page page;
  page.fill(0x90);
  page.back() = 0x0f;
  CHECK(scanner.scan(page).size() == 1);
  Bytes after(bytes_after_max, 0x90);
  after[0] = 0x1f;  // NOP of three bytes and more
  CHECK(scanner.scan(page, {{}, after}).empty());
  after[0] = 0x31;
  REQUIRE(scanner.scan(page, {{}, after}).size() == 1);
  CHECK(scanner.scan(page, {{}, after})[0].hazard == Hazard::time_stamp);
}

TEST_CASE("bytes in front of the page help to judge its beginning") {
  const PageScanner scanner({});
  Page page;
  page.fill(0x90);
  // mov $0x310f, %eax, of which only the end lies in this page.
  const Bytes tail = {0x0f, 0x31, 0x00, 0x00};
  std::ranges::copy(tail, page.begin());
  CHECK(scanner.scan(page).at(0).plausible);
  Bytes before(bytes_before_max, 0x90);
  before.back() = 0xb8;
  const auto suspects = scanner.scan(page, {before, {}});
  REQUIRE(!suspects.empty());
  CHECK_FALSE(suspects[0].plausible);
}

TEST_CASE("a direct jump into the middle of an instruction makes it plausible") {
  const PageScanner scanner({});
  Page page;
  page.fill(0x90);
  const Bytes mov = {0x48, 0xbf, 0x0f, 0x31, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90};
  std::ranges::copy(mov, page.begin() + 0x100);
  REQUIRE(at_offset(scanner.scan(page), 0x102) != nullptr);
  CHECK_FALSE(at_offset(scanner.scan(page), 0x102)->plausible);
  page[0x140] = 0xeb;  // jmp 0x102
  page[0x141] = 0xc0;
  CHECK(at_offset(scanner.scan(page), 0x102)->plausible);
  page[0x140] = 0x90;
  page[0x141] = 0x90;
  const Bytes far_back = {0x0f, 0x84, 0xfc, 0xf8, 0xff, 0xff};  // je, from 0x800
  std::ranges::copy(far_back, page.begin() + 0x800);
  CHECK(at_offset(scanner.scan(page), 0x102)->plausible);
}

TEST_CASE("what the host traps is not looked for") {
  const PageScanner scanner({Hazard::time_stamp});
  Page page;
  page.fill(0x90);
  page[100] = 0x0f;
  page[101] = 0x31;
  CHECK(scanner.scan(page).empty());
  page[101] = 0xa2;
  CHECK(scanner.scan(page).size() == 1);
}

TEST_CASE("hazards inside of other instructions are mostly not plausible") {
  const PageScanner scanner({});
  std::mt19937_64 random(4);
  unsigned hidden = 0, plausible = 0;
  for (int round = 0; round < 100; ++round) {
    std::vector<std::size_t> starts;
    Bytes code = stream(random, starts);
    const std::size_t at = starts[starts.size() / 4 + random() % (starts.size() / 4)];
    Bytes mov = {0x48, 0xb8, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x11};
    const Bytes& bytes = hazards()[random() % 4];
    std::ranges::copy(bytes, mov.begin() + 4);
    code.insert(code.begin() + static_cast<std::ptrdiff_t>(at), mov.begin(), mov.end());
    const auto suspects = scanner.scan(first_page(code));
    const Suspect* suspect = at_offset(suspects, at + 4);
    REQUIRE(suspect != nullptr);
    ++hidden;
    if (suspect->plausible) ++plausible;
  }
  CAPTURE(plausible);
  CHECK(plausible * 2 < hidden);
}

}  // namespace
}  // namespace node_mesh
