#include "replay/cbor.h"

#include <doctest/doctest.h>

#include <random>

#include "sample_log.h"

namespace node_mesh {
namespace {

using nlohmann::json;
using namespace test;

std::expected<json, std::string> read_hex(const char* hex) { return read_cbor(bytes_of_hex(hex)); }

TEST_CASE("what nlohmann writes is read back") {
  const json value = {{"a", 1},      {"b", {1, 2, 3}},  {"c", nullptr},
                      {"d", true},   {"e", UINT64_MAX}, {"f", -5},
                      {"g", "text"}, {"h", 1.5},        {"i", json::binary({1, 2, 3})}};
  const auto bytes = json::to_cbor(value);
  const auto back = read_cbor(std::as_bytes(std::span(bytes)));
  REQUIRE(back);
  CHECK(*back == value);
}

TEST_CASE("whole doubles are integers, as JavaScript writes them") {
  const auto value = read_hex("fb41f0000000000000");
  REQUIRE(value);
  CHECK(value->is_number_unsigned());
  CHECK(*value == 4294967296);
}

TEST_CASE("what headers and frames do not use is refused") {
  CHECK(!read_hex(""));
  CHECK(!read_hex("9f01ff"));                // indefinite length
  CHECK(!read_hex("c001"));                  // tag
  CHECK(!read_hex("a2616101616102"));        // the same key twice
  CHECK(!read_hex("a10101"));                // a key that is no text
  CHECK(!read_hex("0101"));                  // two values
  CHECK(!read_hex("81818181818181818101"));  // deep
  CHECK(!read_hex("9bffffffffffffffff"));    // long
  CHECK(!read_hex("5bffffffffffffffff00"));  // long
  CHECK(!read_hex("3bffffffffffffffff"));    // below the least number
}

TEST_CASE("random bytes never crash it") {
  std::mt19937_64 random(7);
  for (int round = 0; round < 200'000; ++round) {
    Bytes bytes(random() % 40);
    for (std::byte& byte : bytes)
      byte = static_cast<std::byte>(random());
    static_cast<void>(read_cbor(bytes));
  }
}

}  // namespace
}  // namespace node_mesh
