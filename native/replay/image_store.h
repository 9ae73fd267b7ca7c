// The images that a log needs (kernel, initrd), by the SHA-256 of their content: kept beside a log
// file in the directory LOG.images, or inside the log. What is loaded is checked against its name.
#pragma once

#include <expected>
#include <filesystem>
#include <string>

#include "replay/log_file.h"

namespace node_mesh {

std::filesystem::path image_path(const std::filesystem::path& log, const Sha256& name);

// Keeps `source`, whose content is `bytes`, beside the log: a hard link where that works, else a
// clone or a copy. An image that is there already is left alone.
std::expected<void, std::string> store_image(const std::filesystem::path& log, const Sha256& name,
                                             const std::filesystem::path& source,
                                             std::span<const std::byte> bytes);

// From the log itself if it is in there, else from beside it. The error is a whole line.
std::expected<Bytes, std::string> load_image(const std::filesystem::path& log,
                                             const LogReader& reader, const Sha256& name);

}  // namespace node_mesh
