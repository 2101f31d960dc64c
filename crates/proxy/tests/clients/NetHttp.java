// Java's java.net.http.HttpClient as it comes: it offers HTTP/2 with its first request.

import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.InputStreamReader;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;
import java.util.Arrays;

class NetHttp {
    static final HttpClient CLIENT = HttpClient.newHttpClient();

    static int ask(String method, String url, String headers, String kind) throws Exception {
        byte[] body = new byte[kind.equals("chunked") ? 100_000 : Integer.parseInt(kind)];
        Arrays.fill(body, (byte) ' ');
        body[0] = '{';
        body[1] = '}';
        HttpRequest.BodyPublisher sent = kind.equals("chunked")
            ? BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body))
            : BodyPublishers.ofByteArray(body);
        HttpRequest.Builder call = HttpRequest.newBuilder(URI.create(url))
            .timeout(Duration.ofSeconds(20))
            .method(method, sent);
        for (String line : headers.split("\\|")) {
            if (!line.equals("-")) call.header(line.split(": ")[0], line.split(": ")[1]);
        }
        return CLIENT.send(call.build(), BodyHandlers.ofByteArray()).statusCode();
    }

    public static void main(String[] none) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = lines.readLine()) != null; ) {
            String[] at = line.split("\t");
            try {
                int early = ask(at[1], at[2], at[3], at[4]);
                System.out.println(at[0] + "\t" + early + "\t" + ask("POST", at[5], at[6], "2"));
            } catch (Exception error) {
                System.out.println(at[0] + "\t" + error);
            }
        }
    }
}
