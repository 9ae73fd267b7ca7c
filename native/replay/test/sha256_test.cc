#include "replay/sha256.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>

namespace node_mesh {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

TEST_CASE("the digests of the standard's examples") {
  CHECK(hex_of(sha256_of({})) ==
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(hex_of(sha256_of(bytes_of("abc"))) ==
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(hex_of(sha256_of(bytes_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"))) ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(hex_of(sha256_of(bytes_of(std::string(1'000'000, 'a')))) ==
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("however the bytes are cut, the digest is the same") {
  std::mt19937_64 random(1);
  for (int round = 0; round < 300; ++round) {
    std::vector<std::byte> bytes(random() % 2000);
    for (std::byte& byte : bytes)
      byte = static_cast<std::byte>(random());
    const Sha256 expected = sha256_of(bytes);
    Sha256Stream stream;
    for (std::size_t at = 0; at < bytes.size();) {
      const std::size_t size = std::min<std::size_t>(bytes.size() - at, random() % 300);
      stream.add(std::span(bytes).subspan(at, size));
      at += size;
    }
    CHECK(stream.finish() == expected);
  }
}

}  // namespace
}  // namespace node_mesh
