#include "replay/cbor.h"

#include <bit>
#include <cmath>

#include "replay/byte_codec.h"

namespace node_mesh {
namespace {

using nlohmann::json;

class CborReader {
 public:
  explicit CborReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  bool read(json& into) {
    if (!item(into, 0)) return false;
    return offset_ == bytes_.size() || fail("bytes follow the value");
  }
  const std::string& error() const { return error_; }

 private:
  enum Major : unsigned { unsigned_int, negative_int, byte_string, text, array, map, tag, simple };

  bool fail(const char* why) {
    error_ = std::string("CBOR at byte ") + std::to_string(offset_) + ": " + why;
    return false;
  }

  bool big_endian(unsigned count, std::uint64_t& value) {
    if (bytes_.size() - offset_ < count) return fail("the data ends early");
    value = 0;
    for (unsigned i = 0; i < count; ++i) {
      value = value << 8 | static_cast<std::uint64_t>(bytes_[offset_++]);
    }
    return true;
  }

  // The initial byte and its argument; `info` tells how wide the argument was.
  bool head(unsigned& major, unsigned& info, std::uint64_t& argument) {
    std::uint64_t initial = 0;
    if (!big_endian(1, initial)) return false;
    major = static_cast<unsigned>(initial >> 5);
    info = static_cast<unsigned>(initial & 31);
    argument = info;
    if (info < 24) return true;
    if (info > 27) return fail("indefinite lengths are not used here");
    return big_endian(1u << (info - 24), argument);
  }

  bool bytes_of(std::uint64_t length, std::span<const std::byte>& part) {
    if (bytes_.size() - offset_ < length) return fail("the data ends early");
    part = bytes_.subspan(offset_, static_cast<std::size_t>(length));
    offset_ += part.size();
    return true;
  }

  bool text_of(std::uint64_t length, std::string& into) {
    std::span<const std::byte> part;
    if (!bytes_of(length, part)) return false;
    into.assign(reinterpret_cast<const char*>(part.data()), part.size());
    return true;
  }

  bool count_items(std::uint64_t more) {
    if (more > cbor_items_max || (items_ += more) > cbor_items_max) return fail("too many items");
    return true;
  }

  bool item(json& into, unsigned depth) {
    if (depth > cbor_depth_max) return fail("nested too deeply");
    unsigned major = 0;
    unsigned info = 0;
    std::uint64_t argument = 0;
    if (!head(major, info, argument)) return false;
    switch (major) {
      case unsigned_int:
        into = argument;
        return true;
      case negative_int:
        if (argument > INT64_MAX) return fail("a number below -2^63");
        into = -1 - static_cast<std::int64_t>(argument);
        return true;
      case byte_string: {
        std::span<const std::byte> part;
        if (!bytes_of(argument, part)) return false;
        const auto* first = reinterpret_cast<const std::uint8_t*>(part.data());
        into = json::binary(std::vector<std::uint8_t>(first, first + part.size()));
        return true;
      }
      case text: {
        std::string value;
        if (!text_of(argument, value)) return false;
        into = std::move(value);
        return true;
      }
      case array:
        return array_of(argument, into, depth);
      case map:
        return map_of(argument, into, depth);
      case simple:
        return simple_of(info, argument, into);
      default:
        return fail("tags are not used here");
    }
  }

  bool array_of(std::uint64_t count, json& into, unsigned depth) {
    into = json::array();
    if (!count_items(count)) return false;
    for (; count > 0; --count) {
      json element;
      if (!item(element, depth + 1)) return false;
      into.push_back(std::move(element));
    }
    return true;
  }

  bool map_of(std::uint64_t count, json& into, unsigned depth) {
    into = json::object();
    if (!count_items(count)) return false;
    for (; count > 0; --count) {
      unsigned major = 0;
      unsigned info = 0;
      std::uint64_t argument = 0;
      if (!head(major, info, argument)) return false;
      if (major != text) return fail("a map key that is not text");
      std::string key;
      if (!text_of(argument, key)) return false;
      if (into.contains(key)) return fail("a map key occurs twice");
      json value;
      if (!item(value, depth + 1)) return false;
      into.emplace(std::move(key), std::move(value));
    }
    return true;
  }

  bool simple_of(unsigned info, std::uint64_t argument, json& into) {
    if (info == 20 || info == 21) {
      into = info == 21;
      return true;
    }
    if (info == 22 || info == 23) {
      into = nullptr;
      return true;
    }
    double value = 0;
    if (info == 26) {
      value = static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(argument)));
    } else if (info == 27) {
      value = std::bit_cast<double>(argument);
    } else {
      return fail("a simple value that is not used here");
    }
    constexpr double whole_max = 9007199254740992.0;
    if (std::isfinite(value) && value >= 0 && value <= whole_max && std::floor(value) == value) {
      into = static_cast<std::uint64_t>(value);
    } else {
      into = value;
    }
    return true;
  }

  std::span<const std::byte> bytes_;
  std::size_t offset_ = 0;
  std::uint64_t items_ = 0;
  std::string error_;
};

}  // namespace

std::expected<json, std::string> read_cbor(std::span<const std::byte> bytes) {
  CborReader reader(bytes);
  json value;
  if (!reader.read(value)) return std::unexpected(reader.error());
  return value;
}

}  // namespace node_mesh
