/* lookup COUNT NAME...: looks up each name so many times, in both families as programs do, and says what came of it. */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

int main(int argc, char **argv) {
    int failed = 0, slowest = 0;
    for (int round = 0; argc > 1 && round < atoi(argv[1]); round++) {
        for (int name = 2; name < argc; name++) {
            struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
            struct timespec from, to;
            clock_gettime(CLOCK_MONOTONIC, &from);
            int error = getaddrinfo(argv[name], NULL, &hints, &found);
            clock_gettime(CLOCK_MONOTONIC, &to);
            int took = (to.tv_sec - from.tv_sec) * 1000 + (to.tv_nsec - from.tv_nsec) / 1000000;
            if (took > slowest) slowest = took;
            char text[INET6_ADDRSTRLEN] = "";
            if (error) failed++;
            else getnameinfo(found->ai_addr, found->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST);
            if (error || round == 0) printf("%s %s\n", argv[name], error ? gai_strerror(error) : text);
            if (!error) freeaddrinfo(found);
        }
    }
    printf("failed %d, slowest %d ms\n", failed, slowest);
    return 0;
}
