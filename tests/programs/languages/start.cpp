// The start of a program in C++: streams, a map, random numbers, clocks. See start.c.
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <iterator>
#include <map>
#include <random>
#include <string>
#include <time.h>
#include <unordered_map>

static const char *yes(bool condition) { return condition ? "yes" : "no"; }

int main(int argc, char **argv) {
    std::unordered_map<std::string, int> counts;
    for (int i = 1; i < argc; i++) counts[argv[i]]++;
    for (auto &[word, count] : std::map<std::string, int>(counts.begin(), counts.end()))
        std::cout << word << ' ' << count << '\n';
    const char *name = std::getenv("NAME");
    std::cout << "NAME " << (name ? name : "-") << '\n';
    int lines = 0;
    for (std::string line; std::getline(std::cin, line);) lines++;
    std::cout << "lines " << lines << '\n';

    std::ofstream("/data/note") << "from C++\n";
    std::ifstream file("/data/note");
    std::string note((std::istreambuf_iterator<char>(file)), {});
    std::cout << "note " << note;

    auto before = std::chrono::steady_clock::now();
    timespec nap{0, 5000000};
    nanosleep(&nap, nullptr);
    std::cout << "slept " << yes(std::chrono::steady_clock::now() - before >= std::chrono::milliseconds(5)) << '\n';
    auto date = std::chrono::system_clock::now().time_since_epoch();
    std::cout << "date " << yes(date > std::chrono::seconds(1700000000)) << '\n';

    std::random_device device;
    std::cout << "random " << std::hex << std::setfill('0') << std::setw(8) << device() << std::setw(8) << device() << '\n';
}
