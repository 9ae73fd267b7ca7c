// A strict reader of the small part of CBOR (RFC 8949) that headers and control frames use: maps
// with text keys, arrays, text, byte strings, integers, booleans, null, and doubles. It is what
// stands between a hostile header and the process: depth and item counts are bounded, indefinite
// lengths, tags and duplicate keys are refused. Doubles that are whole numbers up to 2^53 read as
// integers, because JavaScript encoders write larger whole numbers that way. Writing is done by
// nlohmann::json::to_cbor, which produces only this part.
#pragma once

#include <cstddef>
#include <expected>
#include <nlohmann/json.hpp>
#include <span>
#include <string>

namespace node_mesh {

inline constexpr unsigned cbor_depth_max = 6;        // a control frame needs 3
inline constexpr std::size_t cbor_items_max = 4096;  // of all containers together

std::expected<nlohmann::json, std::string> read_cbor(std::span<const std::byte> bytes);

}  // namespace node_mesh
