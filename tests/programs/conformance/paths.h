// SPDX-License-Identifier: Apache-2.0

// The tree that both conformance programs work on, and the paths that lead into it and astray.
#pragma once
#include "output.h"

// Names of 255 bytes (the longest there may be) and 256; paths of 4095 bytes (the longest there may
// be) and 4096.
static char name_255[255], name_256[256], path_4095[4095], path_4096[4096];

// A path of so many bytes that leads to "file" by way of many dots.
static void make_long_path(char *path, size_t length) {
    size_t at = 0;
    if (length % 2) {
        memcpy(path, ".//", 3);
        at = 3;
    }
    for (; at < length - 4; at += 2) memcpy(path + at, "./", 2);
    memcpy(path + at, "file", 4);
}

static void make_long_names(void) {
    memset(name_255, 'n', sizeof name_255);
    memset(name_256, 'n', sizeof name_256);
    make_long_path(path_4095, sizeof path_4095);
    make_long_path(path_4096, sizeof path_4096);
}

// file, dir (with inner in it), empty (a directory), and symbolic links: link to file, dirlink to dir,
// dangling to nowhere, loop to itself, up to above the directory that paths start from.
static const text PATHS[] = {
    TEXT(""),
    TEXT("."),
    TEXT(".."),
    TEXT("./"),
    TEXT("../"),
    TEXT("/"),
    TEXT("//"),
    TEXT("/file"),
    TEXT("file"),
    TEXT("file/"),
    TEXT("file/."),
    TEXT("file/.."),
    TEXT("file/x"),
    TEXT("./file"),
    TEXT("dir/../file"),
    TEXT("dir/../../file"),
    TEXT("dir"),
    TEXT("dir/"),
    TEXT("dir//"),
    TEXT("dir/."),
    TEXT("dir/./"),
    TEXT("dir/.."),
    TEXT("dir/../"),
    TEXT("dir/inner"),
    TEXT("dir//inner"),
    TEXT("dir/inner/"),
    TEXT("dir/none"),
    TEXT("dir/none/"),
    TEXT("dir/none/."),
    TEXT("empty"),
    TEXT("empty/"),
    TEXT("empty/."),
    TEXT("empty/.."),
    TEXT("none"),
    TEXT("none/"),
    TEXT("none/."),
    TEXT("none/.."),
    TEXT("none/none"),
    TEXT("link"),
    TEXT("link/"),
    TEXT("link/."),
    TEXT("link/x"),
    TEXT("dirlink"),
    TEXT("dirlink/"),
    TEXT("dirlink/."),
    TEXT("dirlink/.."),
    TEXT("dirlink/inner"),
    TEXT("dangling"),
    TEXT("dangling/"),
    TEXT("dangling/."),
    TEXT("loop"),
    TEXT("loop/"),
    TEXT("loop/x"),
    TEXT("up"),
    TEXT("up/"),
    TEXT("up/x"),
    TEXT("a\0b"),
    TEXT("\xc3\xa9"),
    {name_255, sizeof name_255},
    {name_256, sizeof name_256},
    {path_4095, sizeof path_4095},
    {path_4096, sizeof path_4096},
};
#define PATHS_LENGTH (sizeof PATHS / sizeof *PATHS)

// Those that are taken in pairs, for what has two paths.
static const text PAIRED[] = {
    TEXT(""),
    TEXT("."),
    TEXT(".."),
    TEXT("/"),
    TEXT("file"),
    TEXT("file/"),
    TEXT("file/x"),
    TEXT("dir"),
    TEXT("dir/"),
    TEXT("dir/."),
    TEXT("dir/.."),
    TEXT("dir/inner"),
    TEXT("dir/x"),
    TEXT("empty"),
    TEXT("empty/"),
    TEXT("empty/x"),
    TEXT("none"),
    TEXT("none/"),
    TEXT("none/."),
    TEXT("none/x"),
    TEXT("link"),
    TEXT("link/"),
    TEXT("dirlink"),
    TEXT("dirlink/"),
    TEXT("dirlink/inner"),
    TEXT("dangling"),
    TEXT("dangling/"),
    TEXT("loop"),
    TEXT("up/x"),
    {name_256, sizeof name_256},
};
#define PAIRED_LENGTH (sizeof PAIRED / sizeof *PAIRED)
