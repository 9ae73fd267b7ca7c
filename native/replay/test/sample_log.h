// Chunks that use every field of the schema, shared by the tests of the schema and of the file.
#pragma once

#include <map>
#include <string>

#include "replay/log_schema.h"

namespace node_mesh::test {

MachineConfig sample_config();
DigestEvent sample_digest(std::uint64_t changed_pages);
UserState sample_state();
Preemption::Page sample_page(std::uint64_t gfn);
std::map<std::string, Chunk> sample_chunks();

std::string hex_text(std::span<const std::byte> bytes);
Bytes bytes_of_hex(const std::string& hex);
Bytes bytes_of_text(std::string_view text);

}  // namespace node_mesh::test
